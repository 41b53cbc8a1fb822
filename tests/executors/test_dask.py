"""On the workers of a real cluster: the same bytes, the same errors, whatever dies; and what does not fit is told."""

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import COLLECTION, entry, needs_collection, write_shard
from cook import CookError, Recipe, RecipeError, run
from cook.core import errors
from cook.executors import local
from cook.pack import planner
from cook.read import lines as entries_module
from cook.store import write
from faults.ground import left_over, spools, started, tree, wait_for, write_source, write_tokenizer

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("default")  # what Dask and tornado warn of among themselves

from servers.cluster_server import ClusterServer  # noqa: E402 - needs what may not be there


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A scheduler and two workers."""
    with ClusterServer(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.add(2)
        yield cluster


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A source that keeps two workers busy for a while, a tokenizer for it, and what a cook of it comes to."""
    folder = tmp_path_factory.mktemp("large")
    source, tokenizer = write_source(folder / "source", entries=400, sets=("one",)), write_tokenizer(folder / "bytes")
    arguments = ["-d", "one", "-t", tokenizer, "-s", source, "-o", folder / "right", "--no-cache", "--jobs", "1"]
    with started(*arguments) as process:
        assert process.wait() == 0
    return source, tokenizer, folder / "right"


def cook(cluster, *arguments):
    """The command, in a process of its own."""
    where = ["--executor", "dask", "--scheduler", cluster.address]
    return started(*arguments, *where)


def at_work(folder):
    """The process that is writing a spool, by its temporary file's name."""
    with contextlib.suppress(OSError):  # folders may go meanwhile
        for path in folder.rglob("spools/*/*.tmp"):
            return int(path.name.split(".")[-2].partition("-")[0])
    return None


def writing(root):
    """How many output files are being written."""
    with contextlib.suppress(OSError):
        return len(list(root.glob(".cook/one/*/**/*-train-*.parquet")))
    return 0


# The same bytes


@pytest.mark.parametrize("settings", [{}, {"validation": 0.3, "dedup": True}], ids=["plain", "splits"])
def test_the_same_bytes_as_on_one_machine(tmp_path, running, large, monkeypatch, settings):
    source, tokenizer, _ = large
    common = {"datasets": "all", "tokenizer": tokenizer, "source": source, "cache": "none", **settings}
    for setting, size in ((entries_module, "PART_BYTES"), (planner, "WINDOW"), (write, "FILE_TOKENS")):
        monkeypatch.setattr(setting, size, {"PART_BYTES": 20_000, "WINDOW": 300, "FILE_TOKENS": 40_000}[size])
    run(Recipe(**common, output=tmp_path / "one", jobs=1))
    run(Recipe(**common, output=tmp_path / "two", jobs=2))
    told = []
    monkeypatch.chdir(tmp_path)
    summary = run(Recipe(**common | {"output": "far"}, executor="dask", scheduler=running.address), notice=told.append)
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == tree(tmp_path / "far")
    assert len(list((tmp_path / "far" / "one").glob("train-*.parquet"))) > 3
    assert summary.root == tmp_path / "far"
    [said] = told
    assert re.fullmatch(rf"on 2 workers \(2 threads\) of {running.address}; dashboard http://127\.0\.0\.1:\d+\S*", said)


@needs_collection
def test_the_same_bytes_of_real_shards(tmp_path, running):
    common = {"datasets": ("squad", "QED"), "tokenizer": "llama3", "source": COLLECTION, "cache": "none"}
    run(Recipe(**common, output=tmp_path / "here", jobs=1))
    run(Recipe(**common, output=tmp_path / "far", executor="dask", scheduler_file=running.file))
    assert tree(tmp_path / "here") == tree(tmp_path / "far")


def test_a_worker_of_several_threads(tmp_path, large):
    source, tokenizer, right = large
    with ClusterServer(tmp_path / "cluster") as cluster:
        cluster.add(1, threads=2)
        with cook(cluster, "-d", "one", "-t", tokenizer, "-s", source, "-o", tmp_path / "far", "--no-cache") as process:
            _, printed = process.communicate(timeout=60)
        with cluster.client() as client:
            [engines] = client.run(lambda: os.environ["RAYON_NUM_THREADS"]).values()
    assert process.returncode == 0, printed
    assert re.search(r"warning: worker tcp://\S+ on \S+ has 2 threads: .*--nthreads 1", printed), printed
    assert engines == "2", "one thread for all engines of a process would have Dask's threads wait in line"
    assert tree(tmp_path / "far") == tree(right)


def test_the_lines_of_the_page_that_start_one_by_hand(tmp_path):
    """With TLS. Here on ports of the loopback that are free."""
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert "--protocol tls" in lines
    lines = lines.replace("dask scheduler ", "dask scheduler --host 127.0.0.1 --port 0 --dashboard-address :0 ")
    process = subprocess.Popen(
        ["bash", "-euc", lines], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    try:
        code = process.wait(timeout=90)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    printed = process.stderr.read()
    process.stderr.close()
    assert code == 0, printed
    assert re.search(r"cook: on [12] workers? \([12] threads\) of tls://127\.0\.0\.1", printed), printed
    run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=tmp_path / "here", cache="none", jobs=1))
    assert tree(tmp_path / "here") == tree(tmp_path / "cooked" / "llama3")


# What dies


@pytest.mark.parametrize("work", ["tokenize", "gather"])
def test_a_worker_that_is_killed_at_work(tmp_path, large, work):
    """The other one does it all, and nothing that the dead one left is in the result."""
    source, tokenizer, right = large
    root = tmp_path / "root"
    with ClusterServer(tmp_path / "cluster") as cluster:
        workers = cluster.add(2)
        with cook(cluster, "-d", "one", "-t", tokenizer, "-s", source, "-o", root, "--no-cache") as process:
            if work == "tokenize":
                victim = wait_for(lambda: at_work(root))
                assert victim in workers
            else:
                wait_for(lambda: writing(root) == 2)
                victim = workers[0]
            os.kill(victim, signal.SIGKILL)
            _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert tree(root) == tree(right)


def test_a_scheduler_that_is_killed(tmp_path, large):
    """Said plainly, soon; and the rerun, on another cluster, goes on with the parts that are done."""
    source, tokenizer, right = large
    root, cache = tmp_path / "root", tmp_path / "cache"
    arguments = ["-d", "one", "-t", tokenizer, "-s", source, "-o", root, "--cache", cache]
    with ClusterServer(tmp_path / "cluster") as cluster:
        cluster.add(2)
        address = cluster.address
        with cook(cluster, *arguments) as process:
            wait_for(lambda: len(spools(cache)) >= 3)
            cluster.scheduler.kill()
            begun = time.monotonic()
            _, printed = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert process.returncode == 1, printed
    assert re.search(rf"cook: {address}: the scheduler was lost.*run again.*at \S+/0000\d\.jsonl", printed), printed
    assert "Traceback" not in printed
    assert not root.exists()
    before = spools(cache)
    assert before
    with ClusterServer(tmp_path / "another") as cluster:
        cluster.add(1)
        with cook(cluster, *arguments) as process:
            _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert tree(root) == tree(right)
    assert {name: spools(cache)[name] for name in before} == before, "a part was tokenized again"
    assert left_over(root, cache) == []


def test_a_job_that_kills_every_worker_fails_the_run(tmp_path):
    with ClusterServer(tmp_path / "cluster") as cluster:
        cluster.add(4)
        from cook.executors.dask import connect_cluster

        with (
            connect_cluster(recipe_for(cluster)) as pool,
            pytest.raises(CookError, match=r"4 workers died at one job") as told,
        ):
            list(local.ordered_results(pool, os._exit, [(0, 3)]))
    assert "lost at 3" in str(told.value)


def test_an_interrupt_takes_its_work_along(tmp_path, running, large):
    source, tokenizer, _ = large
    root, cache = tmp_path / "root", tmp_path / "cache"
    with cook(running, "-d", "one", "-t", tokenizer, "-s", source, "-o", root, "--cache", cache) as process:
        wait_for(lambda: at_work(tmp_path))
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert not root.exists()
    with running.client() as client:
        wait_for(lambda: not client.run_on_scheduler(tasks))


tasks = lambda dask_scheduler: len(dask_scheduler.tasks)  # noqa: E731 - how many it knows; pickled whole


# What fails


def recipe_for(cluster, **settings):
    return Recipe(**{"datasets": "set", "tokenizer": "llama3"} | settings, executor="dask", scheduler=cluster.address)


@pytest.mark.parametrize(
    ("shard", "data"),
    [
        ("00000.jsonl", b'{"context": "a", "QA_list": [{"Q": "b", "A": "c"}]}\n{"context": 3}\n'),
        ("00000.jsonl.gz", b"no gzip"),
    ],
    ids=["a bad line", "a shard that cannot be read"],
)
def test_an_error_of_the_data_is_told_as_on_one_machine(tmp_path, running, shard, data):
    path = write_shard(tmp_path / "in", "set", [], shard)
    path.write_bytes(data)
    told = []
    for settings in ({"jobs": 1}, {"executor": "dask", "scheduler": running.address}):
        with pytest.raises(CookError) as caught:
            run(Recipe(datasets="set", tokenizer="llama3", source=tmp_path / "in", output=tmp_path / "out", **settings))
        told.append((type(caught.value), str(caught.value), caught.value.exit_code))
    assert told[0] == told[1]
    assert str(path) in told[0][1]
    assert not (tmp_path / "out").exists()


def made(kind):
    """An error of a kind, as cook makes it."""
    problem = errors.Problem("a.jsonl", 3, "context", "is missing")
    several = {"a": errors.InputError("x"), "b": errors.SourceError("y")}
    special = {
        errors.BadLines: lambda: errors.BadLines([problem], 30, 2),
        errors.SeveralFailed: lambda: errors.SeveralFailed(several, None),
    }
    return special.get(kind, lambda: kind("what: where"))()


def kinds(kind=CookError):
    return [kind, *(each for sub in kind.__subclasses__() for each in kinds(sub))]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_from_a_worker(kind):
    error = made(kind)
    make, *held = error.__reduce__()  # not pickle as a whole: once Dask is imported, it has a way of its own for errors
    back = make(*pickle.loads(pickle.dumps(held[0])))  # noqa: S301 - our own
    assert (type(back), str(back), back.exit_code) == (kind, str(error), error.exit_code)
    assert getattr(back, "problems", None) == getattr(error, "problems", None)


# What does not fit


def test_a_worker_of_other_packages(tmp_path, large):
    source, tokenizer, _ = large
    other = tmp_path / "other" / "instruct_cook-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: instruct-cook\nVersion: 9.9\n")
    with ClusterServer(tmp_path / "cluster") as cluster:
        cluster.add(1, PYTHONPATH=str(other.parent))
        arguments = ["-d", "one", "-t", tokenizer, "-s", source, "-o", tmp_path / "root"]
        with cook(cluster, *arguments) as process:
            _, printed = process.communicate(timeout=60)
    assert process.returncode == 1, printed
    assert re.search(r"worker tcp://\S+ on \S+: has instruct-cook 9\.9, and the client \S+", printed), printed
    assert not (tmp_path / "root").exists()


def can_unshare():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or not can_unshare(), reason="hiding folders from a process is not allowed")
def test_a_worker_that_does_not_see_the_folders(tmp_path, large):
    """One has its own, empty, in place of each of them; it is another machine's view of a path that is not shared."""
    _, tokenizer, _ = large
    hidden = {name: tmp_path / name for name in ("in", "out", "cache")}
    for folder in hidden.values():
        folder.mkdir()
    write_shard(hidden["in"], "set", [entry()])
    mounts = " && ".join(f"mount -t tmpfs none {folder}" for folder in hidden.values())
    with ClusterServer(tmp_path / "cluster") as cluster:
        cluster.add(1, command=("unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh"))
        where = {"source": hidden["in"], "output": hidden["out"] / "root", "cache": str(hidden["cache"])}
        with pytest.raises(errors.ClusterError) as caught:
            run(recipe_for(cluster, tokenizer=str(tokenizer), **where))
    told = str(caught.value)
    host = r"worker tcp://\S+ on \S+: "
    assert re.search(rf"{host}does not see what the client writes into {hidden['out']}/root/\.cook\n", told), told
    assert re.search(rf"{host}does not see what the client writes into {hidden['cache']}/spools\n", told), told
    assert re.search(rf"{host}{hidden['in']}/set/shard/00000\.jsonl: cannot be read there: No such file", told), told
    assert "on storage that all of them share" in told
    assert list(hidden["out"].iterdir()) == []
    assert left_over(hidden["out"], hidden["cache"]) == []


def test_workers_that_are_paused_for_memory_are_waited_for_so_long_and_no_longer(tmp_path, monkeypatch):
    """As a worker pauses whose memory is too little: it takes no job, and stays."""
    from cook.executors import dask as cluster

    write_shard(tmp_path / "in", "one", [entry()])
    recipe = {"datasets": "one", "tokenizer": "llama3", "source": tmp_path / "in", "cache": "none", "executor": "dask"}
    for name, seconds in (("POLL", 0.1), ("WARN", 0.5), ("TIMEOUT", 3.0)):
        monkeypatch.setattr(cluster, f"PAUSE_{name}", seconds)

    def limit(share, dask_worker):
        dask_worker.memory_manager.memory_pause_fraction = share

    with ClusterServer(tmp_path / "cluster") as running:
        running.add(1)
        with running.client() as client:

            def pause(_):
                client.run(limit, 1e-9)
                time.sleep(1)

            begun = time.monotonic()
            with (
                pytest.warns(
                    cluster.ClusterWarning, match=r"tcp://\S+: paused by Dask for lack of memory.* waiting for"
                ),
                pytest.raises(errors.ClusterError, match=r"tcp://\S+: paused by Dask .* No job ended within \d+ s"),
            ):
                run(Recipe(**recipe, output=tmp_path / "out", scheduler=running.address), notice=pause)
            assert time.monotonic() - begun < 20
            assert not (tmp_path / "out").exists()


def test_one_that_joins_later_is_looked_at_too(tmp_path, running):
    """Here by the function that goes before each of its jobs."""
    from cook.executors import dask as cluster

    with cluster.connect_cluster(recipe_for(running)) as pool:
        assert pool.submit(abs, -3).result() == 3
        pool.requirements = cluster.WorkerRequirements(
            tuple((name, "0.0") for name, _ in pool.requirements.versions), ("/not/there",)
        )
        with pytest.raises(
            errors.ClusterError, match=r"(?s)worker on \S+: has numpy \S+, and the client 0\.0.*/not/there"
        ):
            pool.submit(abs, -3).result()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"scheduler": "tcp://127.0.0.1:1"}, r"tcp://127\.0\.0\.1:1: the scheduler cannot be reached"),
        ({"scheduler": "nonsense://x"}, r"nonsense://x: the scheduler cannot be reached"),
        ({"scheduler_file": "not/there.json"}, r"not/there\.json: no such file"),
    ],
)
def test_a_scheduler_that_is_not_there(tmp_path, where, told):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(errors.ClusterError, match=told):
        run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=tmp_path, executor="dask", **where))


def test_a_command_that_reaches_no_scheduler_ends(tmp_path):
    """Also where the client could not even start: it waited for itself as the process ended."""
    command = [sys.executable, "-m", "cook", "-d", "squad", "-t", "llama3", "-s", "sample", "-o", tmp_path / "root"]
    asked = [*command, "--executor", "dask", "--scheduler", "127.0.0.1"]  # no port
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "the scheduler cannot be reached" in done.stderr


def test_a_scheduler_without_workers(tmp_path, monkeypatch):
    from cook.executors import dask as cluster

    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 0.5)
    with (
        ClusterServer(tmp_path / "cluster") as empty,
        pytest.raises(errors.ClusterError, match=r"no worker joined"),
    ):
        run(recipe_for(empty, datasets="squad", source="sample", output=str(tmp_path / "out")))


# Scale


def test_few_jobs_are_known_to_the_scheduler_at_once(running, monkeypatch):
    from cook.executors import dask as cluster

    monkeypatch.setattr(cluster, "JOBS_PER_THREAD", 10)
    made, known = [], []

    def jobs():
        for n in range(200):
            made.append(n)
            yield n, -n

    with cluster.connect_cluster(recipe_for(running)) as pool, running.client() as client:
        assert pool.max_in_flight == 20
        for (n, _), result in local.ordered_results(pool, abs, jobs()):
            assert result == n
            assert len(made) <= n + 20, "jobs are made long before they are needed"
            if n % 40 == 0:
                known.append(client.run_on_scheduler(tasks))
    assert max(known) < 40, "results are kept"  # what was let go is so a little later
    assert 3 * cluster.MAX_IN_FLIGHT < 10_000


# The command


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"executor": "dask"}, r"executor: dask needs one of scheduler .* and scheduler_file"),
        ({"executor": "dask", "scheduler": "a", "scheduler_file": "b"}, r"needs one of"),
        ({"scheduler": "tcp://a:1"}, r"scheduler: goes with executor: dask"),
        ({"tls_ca": "ca.pem"}, r"tls_ca: goes with executor: dask"),
        ({"executor": "dask", "scheduler": "a", "jobs": 2}, r"jobs: is for executor: local"),
        ({"output": "s3://bucket/cooked"}, r"output: must be a folder: .* rename of a folder.*s3://bucket/cooked"),
        ({"cache": "gs://bucket"}, r"cache: must be a folder"),
    ],
)
def test_settings_that_do_not_go_together(settings, told):
    with pytest.raises(RecipeError, match=told):
        Recipe(datasets="squad", tokenizer="llama3", **settings)


def test_local_imports_nothing_of_dask(tmp_path):
    script = (
        "import sys; from cook import Recipe, run;"
        f"run(Recipe(datasets='squad', tokenizer='llama3', source='sample', output={str(tmp_path)!r}, jobs=2));"
        "print([name for name in sys.modules if name.partition('.')[0] in ('dask', 'distributed', 'tornado')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "cook.executors.dask", raising=False)
    monkeypatch.delattr(sys.modules["cook.executors"], "dask", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(errors.ClusterError, match=r"pip install -e '\.\[cluster\]'"):
        run(
            Recipe(
                datasets="squad", tokenizer="llama3", source="sample", output=tmp_path / "x",
                executor="dask", scheduler="tcp://127.0.0.1:1",
            )
        )  # fmt: skip
