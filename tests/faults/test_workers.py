"""Workers that are killed, and interrupts: an end in time, with the right code, and nothing left."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from cook.executors import local
from cook.executors.process import usable_cores
from faults.ground import group, left_over, spools, started, tree, wait_for, write_source

needs_fastokens = pytest.mark.skipif(find_spec("fastokens") is None, reason="fastokens, the extra fast, is not here")
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

IN_TIME = 2.0 * max(1.0, os.getloadavg()[0] / usable_cores())  # seconds from an interrupt to the end


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source that keeps two workers busy for a while."""
    return write_source(tmp_path_factory.mktemp("large"), entries=1200, sets=("one",))


@pytest.fixture(scope="module")
def right(tmp_path_factory, server, tokenizer, large) -> dict[str, bytes | None]:
    """What a cook of it comes to."""
    root = tmp_path_factory.mktemp("right") / "root"
    assert server.run("-d", "one", "-t", tokenizer, "-s", large, "-o", root, "--no-cache").code == 0
    return tree(root)


@pytest.fixture
def arguments(tmp_path, tokenizer, large) -> list[str | Path]:
    return ["-d", "one", "-t", tokenizer, "-s", large, "-o", tmp_path / "root", "--jobs", "2"]


def at_work(folder: Path) -> int | None:
    """The worker that is writing a spool: its process id is in the temporary file's name, before the thread's."""
    for path in folder.rglob("spools/*/*.tmp"):
        return int(path.name.split(".")[-2].partition("-")[0])
    return None


def workers(leader: int, begin: list[str]) -> list[int]:
    """The processes of the command but itself, and what Python starts beside spawned ones."""
    return [pid for pid, line in group(leader).items() if pid != leader and ("spawn_main" in line or not begin)]


BEGIN = pytest.mark.parametrize("begin", [[], ["spawned"]], ids=["forked", "spawned"])


METHOD = """
import threading, time
import cook.tokenizer.presets, cook.executors.process, cook.pipeline.startup
cook.executors.process.configure_process()
cook.pipeline.startup.preload_vocabulary("llama3")
{before}
print(cook.executors.process.worker_start_method())
"""


@pytest.mark.parametrize(
    ("before", "method"),
    [
        ("", "fork"),  # the thread that loads the vocabulary is awaited
        pytest.param("import fastokens", "spawn", marks=needs_fastokens),
        (
            "from cook.tokenizer.presets import *; "
            "load_vocabulary(PRESETS['llama3']).encode_batch_flat(['words'] * 100_000)",
            "spawn",
        ),
        ("threading.Thread(target=time.sleep, args=[2], daemon=True).start()", "spawn"),
    ],
    ids=["as it is", "another engine", "threads of the engine's", "a thread"],
)
def test_workers_are_forked_of_one_thread_alone(before, method):
    code = METHOD.format(before=before)
    environment = os.environ | {"RAYON_NUM_THREADS": "2"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout.strip(), done.stderr) == (method, "")


PRELOADED = """
import cook.executors.local, cook.executors.process
{before}
if __name__ == "__main__":
    size = cook.executors.local.POOL_BYTES * cook.executors.local.SPAWN_COST_FACTOR
    names = "{{'json.tool', 'cook.core.recipe', 'cook.pipeline.runner'}}"
    with cook.executors.local.local_executor(2, size, ("json.tool", "cook.core.recipe")) as pool:
        print(pool.submit(eval, "sorted(" + names + " & __import__('sys').modules.keys())").result())
        print(pool._mp_context.get_start_method())
"""


@pytest.mark.parametrize(("before", "method"), [("cook.executors.process.configure_process()", "fork"), ("", "spawn")])
def test_workers_import_what_is_named_before_they_have_work(before, method):
    command = [sys.executable, "-c", PRELOADED.format(before=before)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["['cook.core.recipe', 'json.tool']", method], "")


def test_an_error_ends_the_thread_that_sees_to_a_pool(monkeypatch):
    """Else Python wakes it at its own end, and now and then prints that what it wakes it by is closed."""
    monkeypatch.setattr(local, "SHUTDOWN_TIMEOUT", 30.0)  # on a machine that is busy
    with pytest.raises(KeyError), local.local_executor(2, local.POOL_BYTES * local.SPAWN_COST_FACTOR) as pool:
        assert pool._executor_manager_thread in threading.enumerate()
        manager = pool._executor_manager_thread
        raise KeyError
    assert manager not in threading.enumerate()


@BEGIN
def test_a_command_that_ends_leaves_no_word_of_what_it_held(arguments, begin):
    with started(*begin, *arguments, "--no-cache", "--quiet") as process:
        _, printed = process.communicate(timeout=30)
    assert (process.returncode, printed) == (0, "")


@pytest.mark.parametrize("preset", ["llama3", "mistral"])
def test_forked_workers_encode_with_the_vocabulary_that_was_loaded_before(tmp_path, server, large, preset):
    arguments = ["-d", "one", "-t", preset, "-s", large, "--no-cache"]
    with started(*arguments, "-o", tmp_path / "root", "--jobs", "3") as process:
        seen: dict[int, str] = {}
        while process.poll() is None:
            seen |= group(process.pid)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 0, printed
    assert server.run(*arguments, "-o", tmp_path / "alone", "--jobs", "1").code == 0
    assert tree(tmp_path / "root") == tree(tmp_path / "alone")
    assert len(seen) == 4
    assert "spawn_main" not in str(seen)


@BEGIN
@pytest.mark.parametrize("kept", ["cache", "no cache"])
def test_a_worker_that_is_killed_at_work(tmp_path, arguments, server, right, large, kept, begin):
    arguments += ["--cache", tmp_path / "cache"] if kept == "cache" else ["--no-cache"]
    with started(*begin, *arguments) as process:
        worker = wait_for(lambda: at_work(tmp_path))
        assert ("spawn_main" in group(process.pid)[worker]) == bool(begin)
        os.kill(worker, signal.SIGKILL)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.search(rf"a worker process died.* at work on {large}/one/shard/0000\d\.jsonl", printed), printed
    assert "Traceback" not in printed
    assert not (tmp_path / "root").exists()
    assert left_over(tmp_path / "root", tmp_path / "cache") == []
    before = spools(tmp_path / "cache")
    done = server.run(*arguments)
    assert done.code == 0, done.printed
    assert tree(tmp_path / "root") == right
    assert {name: spools(tmp_path / "cache")[name] for name in before} == before


@BEGIN
@pytest.mark.parametrize("limit", [[], ["--limit", "3000"]], ids=["all", "limit"])
def test_a_worker_that_is_killed_before_it_works(tmp_path, arguments, limit, begin):
    """More workers than are used soon: some are being started when the first one dies."""
    with started(*begin, *arguments, "--no-cache", "--jobs", "6", *limit) as process:
        worker = wait_for(lambda: workers(process.pid, begin))[0]
        os.kill(worker, signal.SIGKILL)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "cook: a worker process died" in printed
    assert not (tmp_path / "root").exists()


DIES = """
import os, pathlib, signal, sys, time
import cook.executors.local, cook.executors.process
from cook.core.errors import CookError
def work(sends):
    if not sends:
        time.sleep(60)
    pathlib.Path("pid").write_text(str(os.getpid()))
    return bytes(64 << 20)  # far more than a pipe holds
if __name__ == "__main__":
    if sys.argv[1:]:
        cook.executors.process.configure_process()
    size = cook.executors.local.POOL_BYTES * cook.executors.local.SPAWN_COST_FACTOR
    try:
        with cook.executors.local.local_executor(2, size) as pool:
            reader, read = pool._result_queue._reader, pool._result_queue._reader._recv
            def killing(count, *more):
                if count > 1 << 20:
                    reader._recv = read
                    os.kill(int(pathlib.Path("pid").read_text()), signal.SIGKILL)
                    print("killed", time.monotonic(), flush=True)
                return read(count, *more)
            reader._recv = killing
            for _ in cook.executors.local.ordered_results(pool, work, [(0, True), (1, False)]):
                print("a result")
    except CookError as exc:
        print(exc, time.monotonic(), flush=True)
"""


@BEGIN
def test_a_worker_that_is_killed_while_it_sends_a_result(tmp_path, begin):
    """The pool would read for the rest of it, and the other workers wait for their turn to send, without end."""
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    command = [sys.executable, script, *([] if begin else ["forked"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert "a worker process died" in done.stdout
    killed, ended = (float(line.split()[-1]) for line in done.stdout.splitlines() if line[-1].isdigit())
    assert ended - killed < 5 * IN_TIME / 2


@pytest.mark.many
@BEGIN
def test_workers_that_are_killed_at_random_moments(tmp_path, arguments, figures, begin):
    arguments += ["--no-cache", "--overwrite"]
    begun = time.monotonic()
    with started(*begin, *arguments) as process:
        process.communicate(timeout=60)
    took, chance = time.monotonic() - begun, random.Random(0)  # noqa: S311
    for _ in range(30):
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        with started(*begin, *arguments) as process:
            time.sleep(took * chance.uniform(0.2, 1))
            found = workers(process.pid, begin)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(found), signal.SIGKILL)
                figures["workers killed at random moments"] += 1
            _, printed = process.communicate(timeout=5 * IN_TIME)
        assert process.returncode in (0, 1), printed
        assert process.returncode == 0 or "cook: a worker process died" in printed
        assert "Traceback" not in printed


@BEGIN
def test_a_worker_takes_no_interrupt_from_its_first_moment_on(arguments, begin):
    """A terminal's Ctrl-C goes to all, also to those that have not run a line yet, and would print a traceback."""
    looked = 0
    with started(*begin, *arguments, "--no-cache") as process:
        while process.poll() is None:
            for pid in workers(process.pid, begin):
                with contextlib.suppress(OSError):
                    status = (Path("/proc") / str(pid) / "status").read_text()
                    held = [int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Ign):\s*(\w+)", status, re.MULTILINE)]
                    assert any(mask >> (signal.SIGINT - 1) & 1 for mask in held), status
                    looked += 1
    assert looked > 10


@pytest.mark.parametrize(
    ("signum", "to_all", "kept"),
    [
        (signal.SIGINT, True, "cache"),  # as a terminal's Ctrl-C
        (signal.SIGINT, False, "no cache"),
        (signal.SIGTERM, False, "cache"),
        (signal.SIGTERM, True, "no cache"),  # as a batch system's end of time
    ],
)
@BEGIN
def test_an_interrupt_ends_it_in_time_and_leaves_nothing(
    tmp_path, arguments, server, right, signum, to_all, kept, begin
):
    arguments += ["--cache", tmp_path / "cache"] if kept == "cache" else ["--no-cache"]
    with started(*begin, *arguments) as process:
        wait_for(lambda: at_work(tmp_path))
        begun = time.monotonic()
        (os.killpg if to_all else os.kill)(process.pid, signum)
        _, printed = process.communicate(timeout=30)
        took = time.monotonic() - begun
        wait_for(lambda: not group(process.pid), 1)
    assert process.returncode == 128 + signum, printed
    assert took < IN_TIME
    assert "finished datasets are complete. Run the same command again" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "root").exists()
    assert left_over(tmp_path / "root", tmp_path / "cache") == []
    before = spools(tmp_path / "cache")
    assert server.run(*arguments).code == 0
    assert tree(tmp_path / "root") == right
    assert {name: spools(tmp_path / "cache")[name] for name in before} == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_a_small_run_in_threads(tmp_path, tokenizer, server, large, right, signum):
    arguments = ["-d", "one", "-t", tokenizer, "-s", large, "-o", tmp_path / "root", "--no-cache", "--jobs", "2"]
    running = server.start(*arguments)
    wait_for(lambda: at_work(tmp_path))
    begun = time.monotonic()
    os.kill(running, signum)
    done = server.wait(running)
    assert time.monotonic() - begun < IN_TIME
    assert done.code == 128 + signum, done.printed
    assert not (tmp_path / "root").exists()
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    assert server.run(*arguments).code == 0
    assert tree(tmp_path / "root") == right
