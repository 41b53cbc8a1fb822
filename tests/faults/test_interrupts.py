"""Interrupts at any moment: an end within seconds, with no traceback and nothing held, and the next run is whole."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cook.executors.process import usable_cores
from faults.ground import group, started, tree, wait_for, write_source

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

END = 5.0 * max(1.0, os.getloadavg()[0] / usable_cores())  # seconds
ROUNDS = [("few", 24), pytest.param("many", 300, marks=pytest.mark.many)]


def listens(pid: int) -> bool:
    """Whether the command takes signals in its own way: before that Python starts, and tells of them as it does."""
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return True
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1) or "State:\tZ" in status


def kind_of_run(number: int) -> tuple[list[str], str]:
    """How a run begins: with forked workers, with spawned ones, in threads."""
    return [([], "pooled.py"), (["spawned"], "pooled.py"), ([], "plain.py")][number % 3]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("large"), entries=300, sets=("one", "two"))


@pytest.mark.parametrize(("name", "rounds"), ROUNDS)
def test_interrupts_at_random_moments(tmp_path, server, tokenizer, large, name, rounds, figures):
    common = ["-d", "all", "-t", tokenizer, "-s", large, "--jobs", "2"]
    took = {}
    for number in range(3):
        begin, script = kind_of_run(number)
        right = tmp_path / f"right{number}"
        with started(*begin, *common, "-o", right, "--no-cache", script=script) as process:
            wait_for(lambda pid=process.pid: listens(pid))
            begun = time.monotonic()
            _, printed = process.communicate(timeout=60)
            took[number] = time.monotonic() - begun
        assert process.returncode == 0, printed
    model = tree(tmp_path / "right0")
    chance = random.Random(name)  # noqa: S311
    for number in range(rounds):
        root, kept = tmp_path / f"root{number}", (number % 2 and ["--cache", tmp_path / "cache"]) or ["--no-cache"]
        begin, script = kind_of_run(number)
        said = f"run {number}"
        with started(*begin, *common, "-o", root, *kept, script=script) as process:
            wait_for(lambda pid=process.pid: listens(pid))
            time.sleep(took[number % 3] * chance.uniform(0, 0.95))
            for _ in range(chance.randint(1, 3)):
                send = chance.choice([os.killpg, os.kill])
                try:
                    send(process.pid, signal.SIGINT)
                except ProcessLookupError:
                    break
                time.sleep(chance.choice([0, 0, 0.001, 0.05, 0.3]))
            begun = time.monotonic()
            try:
                _, printed = process.communicate(timeout=END)
            except subprocess.TimeoutExpired:
                pytest.fail(f"{said}: hangs: {group(process.pid)}")
            figures["interrupts"] += 1
            longest = "ms the longest end after an interrupt"
            figures[longest] = max(figures[longest], int(1000 * (time.monotonic() - begun)))
            figures["interrupts that came too late"] += process.returncode == 0
            figures["ends by force"] += "did not end in time" in printed
            assert process.returncode in (0, 130), (said, process.returncode, printed)
            assert process.returncode == 0 or "cook: interrupted" in printed
            assert "Traceback" not in printed, (said, printed)
            assert "Exception" not in printed, (said, printed)
            assert "resource_tracker" not in printed, (said, printed)
            wait_for(lambda pid=process.pid: not group(pid), 2)
        done = server.run(*common, "-o", root, *kept)
        assert done.code == 0, (said, done.printed)
        assert tree(root) == model, said


STUCK = """
import sys, threading, time
from cook.cli import ending
import cook.pipeline.runner
def stuck(*_, **__):
    print("stuck", flush=True)
    {how}
cook.pipeline.runner.run = stuck
sys.argv[1:] = ["-d", "squad", "-t", "llama3", "-s", "sample"]
from cook.__main__ import start
start()
"""


@pytest.mark.parametrize(
    "how",
    [
        "threading.Thread(target=lambda: threading.Event().wait()).start(); threading.Event().wait()",
        "\n    while True:\n        try: threading.Event().wait()\n        except BaseException: pass",
    ],
    ids=["a thread that never ends", "what swallows it"],
)
def test_what_does_not_end_is_ended(how):
    command = [sys.executable, "-c", STUCK.format(how=how)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "stuck\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=END)
    assert "Traceback" not in printed


def test_an_interrupt_that_was_to_be_ignored_is():
    """As under nohup, and in the background of a script."""
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    code += "from cook.cli import ending; ending.install_handlers(); "
    code += "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, callable(signal.getsignal(signal.SIGTERM)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == (
        "True True\n"
    )
