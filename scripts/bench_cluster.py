"""Compare a Dask cluster on this machine with as many local processes, in turns, and measure what a job costs.

    python scripts/bench_cluster.py SOURCE [--workers 2] [--rounds 3] [--scratch DIR]

SOURCE is laid out DATASET/shard/*.jsonl. Each round cooks all of it with `--jobs N` and on N workers, with --no-cache,
and compares the results, byte for byte. CPU seconds are those of all processes of a kind, from /proc: on a machine that
does other work too they say more than the clock. The client's memory is its own (RssAnon), the most that was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

TICKS = os.sysconf("SC_CLK_TCK")
COOK_COMMAND = (sys.executable, "-m", "cook")
EMPTY_JOBS = 1000


def cpu_seconds(pids: list[int]) -> float:
    """The CPU seconds that processes took so far."""
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, int, list[int]]]:
    """A scheduler and workers: its address, its process id, theirs."""
    file = folder / "scheduler.json"
    own = ["--no-dashboard"]
    started = []

    def start(kind: str, *arguments: str) -> int:
        log = (folder / f"{kind}{len(started)}.log").open("wb")
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments, *own]
        started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
        return started[-1].pid

    try:
        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        while not file.exists():
            time.sleep(0.1)
        pids = [start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny") for _ in range(workers)]
        yield json.loads(file.read_bytes())["address"], scheduler, pids
    finally:
        for process in started:
            process.kill()
            process.wait()


def cook(source: Path, output: Path, *flags: str) -> tuple[float, float, float]:
    """Cook all; seconds, CPU seconds of the command and its children, and MB of its own memory at the most."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun, most = time.perf_counter(), 0
    arguments = ["-d", "all", "-t", "llama3", "-s", str(source), "-o", str(output), "--no-cache", "-q", *flags]
    with (output.parent / "cook.log").open("wb") as log:
        process = subprocess.Popen([*COOK_COMMAND, *arguments], stderr=log)
        while process.poll() is None:
            with contextlib.suppress(OSError, TypeError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                most = max(most, int(re.search(r"RssAnon:\s+(\d+)", status)[1]))
            time.sleep(0.02)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode not in (0, 3):  # 3: a dataset that does not fit in a sequence, refused by both
        sys.exit((output.parent / "cook.log").read_text())
    return time.perf_counter() - begun, took, most / 1024


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same bytes."""
    files = [{str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} for root in (one, other)]
    return files[0] == files[1] and not any(filecmp.cmpfiles(one, other, files[0], shallow=False)[1:])


def measure_empty_jobs(address: str, scheduler: int, workers: list[int]) -> None:
    """What a job costs that does nothing."""
    from cook import Recipe
    from cook.executors import local
    from cook.executors.dask import connect_cluster
    from cook.tokenizer.loading import resolve_tokenizer

    recipe = Recipe(datasets="all", tokenizer="llama3", executor="dask", scheduler=address)
    with connect_cluster(recipe) as pool:
        argument = resolve_tokenizer(recipe)  # most of what a job is sent with
        list(local.ordered_results(pool, id, [(0, argument)] * 100))
        before = [cpu_seconds([os.getpid()]), cpu_seconds([scheduler]), cpu_seconds(workers)]
        begun = time.perf_counter()
        list(local.ordered_results(pool, id, [(0, argument)] * EMPTY_JOBS))
        seconds = time.perf_counter() - begun
        took = [
            b - a
            for a, b in zip(
                before, [cpu_seconds([os.getpid()]), cpu_seconds([scheduler]), cpu_seconds(workers)], strict=True
            )
        ]
    print(f"an empty job: {seconds / EMPTY_JOBS * 1000:.2f} ms; of CPU ", end="")
    kinds = zip(("client", "scheduler", "workers"), took, strict=True)
    print(", ".join(f"{kind} {each / EMPTY_JOBS * 1000:.2f} ms" for kind, each in kinds), flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args()
    source = options.source.absolute()
    size = sum(path.stat().st_size for path in source.rglob("*.jsonl*")) / 1e9
    print(f"{size:.3f} GB, {options.workers} workers, load {os.getloadavg()[0]:.1f}", flush=True)
    rounds = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as name, cluster(Path(name), options.workers) as running:
        folder, (address, scheduler, workers) = Path(name), running
        for number in range(options.rounds):
            here, here_cpu, _ = cook(source, folder / "here", "--jobs", str(options.workers))
            before = cpu_seconds([scheduler, *workers])
            far, client_cpu, memory = cook(source, folder / "far", "--executor", "dask", "--scheduler", address)
            far_cpu = client_cpu + cpu_seconds([scheduler, *workers]) - before
            if not same_files(folder / "here", folder / "far"):
                sys.exit("the results differ")
            for root in ("here", "far"):
                shutil.rmtree(folder / root)
            rounds.append((here, far, here_cpu, far_cpu))
            print(f"round {number}: here {here:.2f} s, CPU {here_cpu:.2f} s; cluster {far:.2f} s, CPU {far_cpu:.2f} s")
            print(f"  of it the client {client_cpu:.2f} s; client {memory:.1f} MB; the same bytes", flush=True)
        clock_here, clock_far, cpu_here, cpu_far = ([each[kind] for each in rounds] for kind in range(4))
        print(f"ratio of medians {median(clock_far) / median(clock_here):.2f}", end=", ")
        print(f"of least {min(clock_far) / min(clock_here):.2f}, of CPU {median(cpu_far) / median(cpu_here):.2f}")
        print(f"CPU seconds a GB: here {median(cpu_here) / size:.0f}, cluster {median(cpu_far) / size:.0f}", flush=True)
        measure_empty_jobs(address, scheduler, workers)


if __name__ == "__main__":
    main()
