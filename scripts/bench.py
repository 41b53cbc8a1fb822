"""Measure cook beside the published recipe and TRL, side by side in one run; prints Markdown tables.

    pip install '.[bench]'
    python scripts/bench.py --source COLLECTION [--recipe seed_recipe.py] [--only speed,packing,…]

COLLECTION is grown (see grow_collection.py) to the sizes that are measured. Cooking is measured as whole processes,
cold (no cache unless a row says so), Python's start-up included; sizes are bytes of JSONL. Machines differ and are
noisy: what counts are the ratios within one run. Sections:

    speed      cook against the published recipe: 25 MB, and larger sizes against the recipe scaled by tokens
    engine     end to end against the engine alone, encoding the same text in as many processes
    scaling    seconds against size and against jobs
    recook     a second cook with the cache: another seed, another length
    memory     peak anonymous memory of all processes together
    packing    the plan against TRL's pack_dataset(strategy="bfd") on the same lengths
    stages     where the time goes, each stage alone on one core
    codecs     seconds and bytes of Parquet codecs
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SCRIPTS = Path(__file__).resolve().parent
COOK_COMMAND = str(Path(sys.executable).with_name("cook"))
MB = 1_000_000


def print_table(title: str, rows: list[dict[str, object]]) -> None:
    """Print rows of equal keys as a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row.values())} |", flush=True)


def run_timed(command: list[str], env: dict[str, str] | None = None) -> float:
    """Wall seconds of a whole process, which must succeed."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | (env or {}))
    return time.perf_counter() - begun


class Bench:
    """What the sections share: grown collections, a scratch folder, and how cook is run."""

    def __init__(self, source: Path, recipe: Path | None, scratch: Path, repeats: int) -> None:
        self.source, self.recipe, self.scratch, self.repeats = source, recipe, scratch, repeats

    def grown(self, size: int) -> Path:
        """The collection grown to `size` bytes."""
        folder = self.scratch / f"grown-{size // MB}MB"
        if not folder.exists():
            script = [sys.executable, str(SCRIPTS / "grow_collection.py"), str(self.source), str(folder)]
            subprocess.run([*script, "--size", str(size)], check=True, capture_output=True)
        return folder

    def command(self, source: Path, *flags: str) -> list[str]:
        """A cook of all datasets of a source into a folder that is removed first, without the cache unless said."""
        out = self.scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        cache = () if any(flag.startswith("--cache") for flag in flags) else ("--no-cache",)
        common = ["-q", "-d", "all", "-t", "llama3", "-s", str(source), "-o", str(out), "--max-dropped", "1"]
        return [COOK_COMMAND, *common, *cache, *flags]

    def cook(self, source: Path, *flags: str) -> float:
        """Seconds of a cook."""
        return run_timed(self.command(source, *flags))

    def median_in_turns(self, *runs: Callable[[], float]) -> list[float]:
        """Median seconds of each, run by turns: the machine is another a minute later."""
        rounds = [[run() for run in runs] for _ in range(self.repeats)]
        return [statistics.median(seconds) for seconds in zip(*rounds, strict=True)]

    def tokens(self) -> int:
        """The tokens of the last result."""
        manifests = [json.loads(path.read_bytes()) for path in (self.scratch / "out").glob("*/cook.json")]
        return sum(found["counts"]["tokens"] for found in manifests)

    # Sections

    def speed(self) -> None:
        """Against the published recipe."""
        if self.recipe is None:
            print("\nspeed: pass --recipe")
            return
        from cook.tokenizer.engines.bundled import tokenizer_json
        from cook.tokenizer.presets import PRESETS

        reference = self.scratch / "llama3.json"
        reference.write_bytes(tokenizer_json(PRESETS["llama3"]))
        small = self.grown(25 * MB)
        names = ",".join(sorted(path.name for path in small.iterdir()))
        out = ["--tokenizer-json", str(reference), "--out", str(self.scratch / "recipe")]
        recipe = functools.partial(run_timed, [sys.executable, str(self.recipe), str(small), names, *out])
        sizes = {"25 MB": 25 * MB, "25 MB, at once again": 25 * MB, "250 MB": 250 * MB, "500 MB": 500 * MB}
        written = dict.fromkeys(sizes, 0)

        def cooked(what: str) -> float:
            seconds = self.cook(self.grown(sizes[what]))
            written[what] = self.tokens()
            return seconds

        recipe_seconds, *cook_seconds = self.median_in_turns(
            recipe, *(functools.partial(cooked, what) for what in sizes)
        )
        rows = []
        for what, seconds in zip(sizes, cook_seconds, strict=True):
            tokens, first = written[what], written["25 MB"]
            scaled = recipe_seconds * tokens / first
            rows.append(
                {
                    "size": what,
                    "tokens written": f"{tokens:,}",
                    "cook, s": f"{seconds:.2f}",
                    "recipe, s": f"{scaled:.1f}" + (" (scaled by tokens)" if tokens > first else ""),
                    "ratio": f"{scaled / seconds:.1f}",
                    "MB/s": f"{sizes[what] / MB / seconds:.0f}",
                }
            )
        print_table("cook against the published recipe", rows)

    def engine(self) -> None:
        """End to end against the engine alone."""
        rows = []
        for size, engine in ((250 * MB, "splintr"), (250 * MB, "fastokens"), (1000 * MB, "fastokens")):
            source = self.grown(size)
            loading: list[float] = []
            whole, engine_seconds = self.median_in_turns(
                functools.partial(self.cook, source, "--engine", engine, "--jobs", "2"),
                functools.partial(engine_only_seconds, source, engine, 2, loading),
            )
            load = statistics.median(loading)
            rows.append(
                {
                    "size": f"{size // MB} MB", "engine": engine, "jobs": 2, "end to end, s": f"{whole:.2f}",
                    "engine alone, s": f"{engine_seconds:.2f}", "ratio": f"{whole / engine_seconds:.2f}",
                    "with loading, s": f"{engine_seconds + load:.2f}",
                    "ratio to that": f"{whole / (engine_seconds + load):.2f}",
                }
            )  # fmt: skip
        print_table("End to end against the engine alone", rows)

    def scaling(self) -> None:
        """Seconds against jobs and size."""
        full, half = self.grown(250 * MB), self.grown(125 * MB)
        flags = ("--engine", "splintr")
        one, two, small = self.median_in_turns(
            functools.partial(self.cook, full, *flags, "--jobs", "1"),
            functools.partial(self.cook, full, *flags, "--jobs", "2"),
            functools.partial(self.cook, half, *flags, "--jobs", "2"),
        )
        rows = [
            {"what": "250 MB, 1 job", "s": f"{one:.2f}", "ratio": ""},
            {"what": "250 MB, 2 jobs", "s": f"{two:.2f}", "ratio": f"{one / two:.2f} times faster"},
            {"what": "125 MB, 2 jobs", "s": f"{small:.2f}", "ratio": f"double the input: {two / small:.2f} times"},
        ]
        print_table("Scaling", rows)

    def recook(self) -> None:
        """A second cook with the cache."""
        source, cache = self.grown(250 * MB), self.scratch / "cache"
        rows = []
        for engine in ("auto", "splintr"):
            cook = functools.partial(self.cook, source, "--cache", str(cache), "--engine", engine)

            def first(cook: Callable[..., float] = cook) -> float:
                shutil.rmtree(cache, ignore_errors=True)
                return cook()

            again = (functools.partial(cook, "--seed", "1"), functools.partial(cook, "--max-length", "2048"))
            whole, *others = self.median_in_turns(first, *again)
            for what, seconds in zip(("first", "another seed", "--max-length 2048"), (whole, *others), strict=True):
                rows.append({"engine": engine, "what": what, "s": f"{seconds:.2f}", "share": f"{seconds / whole:.2f}"})
        print_table("A second cook, 250 MB", rows)

    def memory(self) -> None:
        """Peak anonymous memory."""
        rows = []
        for size in (25 * MB, 250 * MB, 1000 * MB):
            source = self.grown(size)
            peak, largest = peak_memory(self.command(source))
            rows.append(
                {"size": f"{size // MB} MB", "all processes": f"{peak:.0f} MB", "largest process": f"{largest:.0f} MB"}
            )
        print_table("Peak anonymous memory (RssAnon, every 20 ms)", rows)

    def packing(self) -> None:
        """The plan against TRL."""
        import datasets
        import pyarrow as pa
        from trl.data_utils import pack_dataset

        from cook.pack.planner import plan

        count, limit = 1_000_000, 2048
        lengths = np.clip(np.random.default_rng(0).lognormal(np.log(345) - 0.405, 0.9, count).astype(int), 1, limit)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        ids = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], np.int32)))
        data = datasets.Dataset(pa.table({"input_ids": ids}))
        begun = time.perf_counter()
        packed = pack_dataset(data, limit, strategy="bfd", map_kwargs={"batch_size": count})
        trl_seconds = time.perf_counter() - begun
        full = lengths.sum() / limit
        rows = [
            {"plan": "TRL bfd, one batch", "s": f"{trl_seconds:.2f}", "ratio": "1", "full": f"{full / len(packed):.4%}"}
        ]
        for packing in ("best-fit-decreasing", "best-fit", "in-order"):
            times = []
            for _ in range(self.repeats):
                begun = time.perf_counter()
                made = plan(lengths, limit, packing)
                times.append(time.perf_counter() - begun)
            seconds = statistics.median(times)
            ratio = f"{trl_seconds / seconds:.0f}"
            rows.append({"plan": packing, "s": f"{seconds:.2f}", "ratio": ratio, "full": f"{full / len(made):.4%}"})
        print_table("Packing a million lengths (lognormal, mean 345, limit 2048)", rows)

    def stages(self) -> None:
        """Where the time goes."""
        os.environ["RAYON_NUM_THREADS"] = "1"
        source = self.grown(250 * MB)
        whole = self.cook(source, "--jobs", "1", "--engine", "splintr")
        times = stage_seconds(source, self.scratch)
        total = sum(times.values())
        rows = [{"stage": stage, "s": f"{s:.2f}", "share": f"{s / total:.0%}"} for stage, s in times.items()]
        rows.append({"stage": "sum", "s": f"{total:.2f}", "share": "100%"})
        rows.append({"stage": "the whole process, one job", "s": f"{whole:.2f}", "share": ""})
        print_table("Where the time goes: 250 MB, llama3, splintr, each stage alone on one core", rows)

    def codecs(self) -> None:
        """Codecs for the pages of real sequences; and pyarrow's own writer."""
        import pyarrow.parquet as pq

        from cook.store import columns, pages, read
        from cook.trainers.tables import PARQUET_OPTIONS

        subprocess.run(self.command(self.grown(25 * MB)), check=True, capture_output=True)
        files = sorted((self.scratch / "out").glob("*/*.parquet"))
        groups = [next(read.read_columns(file)) for file in files]
        batches = [pq.ParquetFile(file).read_row_group(0).combine_chunks().to_batches()[0] for file in files]
        tokens = sum(len(group["input_ids"][0]) for group in groups)
        path = self.scratch / "codec.parquet"

        def by_pages(codec: str, level: int | None) -> None:
            with path.open("wb") as file:
                writer = pages.ParquetWriter(file, columns.SEQUENCE_COLUMNS)
                writer._codec = compressor_for(codec, level)
                for group in groups:
                    (ids, by_token), (mask, _) = group["input_ids"], group["loss_mask"]
                    laid_out = {
                        name: (values, by_token) for name, values in columns.token_columns(ids, mask != 0).items()
                    }
                    writer.write([(group | laid_out)[name] for name in columns.SEQUENCE_COLUMNS])
                writer.close()

        def by_pyarrow() -> None:
            with pq.ParquetWriter(path, columns.parquet_schema(), **PARQUET_OPTIONS) as writer:
                for batch in batches:
                    writer.write_batch(batch)

        writers: dict[str, Callable[[], None]] = {
            codec if level is None else f"{codec} {level}": functools.partial(by_pages, codec, level)
            for codec, level in (("none", None), ("snappy", None), ("lz4", None), ("zstd", 1), ("zstd", 3), ("zstd", 9))
        }
        writers["zstd 1, pyarrow's writer"] = by_pyarrow
        times: dict[str, list[float]] = {name: [] for name in writers}
        sizes = {}
        for _ in range(3 * self.repeats):
            for name, write in writers.items():
                begun = time.perf_counter()
                write()
                times[name].append(time.perf_counter() - begun)
                sizes[name] = path.stat().st_size
        rows = [
            {
                "codec": name,
                "ns a token": f"{statistics.median(seconds) / tokens * 1e9:.1f}",
                "bytes a token": f"{sizes[name] / tokens:.2f}",
            }
            for name, seconds in times.items()
        ]
        print_table("Codecs, on the sequences of 25 MB, one core", rows)


def compressor_for(name: str, level: int | None) -> Any:
    """What compresses pages, by the name of a codec."""
    import pyarrow as pa
    import zstandard

    if name == "zstd":
        return zstandard.ZstdCompressor(level=level or 0)
    return SimpleNamespace(
        compress=functools.partial(pa.Codec(name).compress, asbytes=True) if name != "none" else bytes
    )


def processes(root: int) -> Iterator[int]:
    """A process and all below it."""
    yield root
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{root}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from processes(int(child))


def anonymous_memory(pid: int) -> int:
    """A process's anonymous memory, kB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


def peak_memory(command: list[str]) -> tuple[float, float]:
    """The peak of the sum over processes, and of the largest, in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = largest = 0
    while process.poll() is None:
        sizes = [anonymous_memory(pid) for pid in processes(process.pid)]
        peak, largest = max(peak, sum(sizes)), max(largest, *sizes)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return peak / 1024, largest / 1024


def format_texts(source: Path, share: int, of: int) -> Iterator[list[str]]:
    """The formatted texts of every `of`-th part of a source, in batches as cook makes them."""
    from cook import Recipe
    from cook.core.errors import Problem
    from cook.encode.parts import BATCH_BYTES
    from cook.read.lines import LineReader, byte_ranges
    from cook.shapes.context_qa import parse_entry
    from cook.shapes.formatter import Formatter

    formatter = Formatter(Recipe(datasets="all", tokenizer="llama3"))
    shards = sorted(source.glob("*/shard/*.jsonl"))
    parts = [part for shard in shards for part in byte_ranges(shard, shard.stat().st_size)]
    for part in parts[share::of]:
        texts, size = [], 0
        for line in LineReader(part):
            entry = None if isinstance(line, Problem) else parse_entry(part.path, line)
            if entry is None or isinstance(entry, list):
                raise SystemExit(f"{part.path}: bad line")
            texts += [formatter.input_text(entry.context), formatter.output_text(entry.pairs)]
            size += len(line.text)
            if size >= BATCH_BYTES:
                yield texts
                texts, size = [], 0
        yield texts


def encode_share(source: Path, engine: str, share: int, of: int) -> tuple[float, float]:
    """In a worker: seconds to load the engine, and to encode a share of the texts, which are made outside of both."""
    from cook import Recipe
    from cook.tokenizer.loading import load_engine, resolve_tokenizer

    begun = time.perf_counter()
    made = load_engine(resolve_tokenizer(Recipe(datasets="all", tokenizer="llama3", engine=engine)))
    load = time.perf_counter() - begun
    encoding = 0.0
    for texts in format_texts(source, share, of):
        begun = time.perf_counter()
        made.encode(texts)
        encoding += time.perf_counter() - begun
    return load, encoding


def limit_threads() -> None:
    """In a worker: as cook sets it."""
    os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"


def engine_only_seconds(source: Path, engine: str, jobs: int, loading: list[float]) -> float:
    """Seconds in which so many workers encode their shares, all at work at once; adds those to load the engine."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=limit_threads) as pool:
        shares = list(pool.map(encode_share, [source] * jobs, [engine] * jobs, range(jobs), [jobs] * jobs))
    # Shares differ a little: perfectly divided work is the fairest thing to be held against.
    loading.append(max(load for load, _ in shares))
    return sum(encoding for _, encoding in shares) / jobs


def stage_seconds(source: Path, scratch: Path) -> dict[str, float]:
    """Each stage alone, over the whole source, batch by batch, through the functions that cook calls."""
    from cook import Recipe
    from cook.core import records
    from cook.core.cache import ids_path
    from cook.core.errors import Problem
    from cook.core.files import sha256_of
    from cook.encode import spool
    from cook.encode.parts import BATCH_BYTES, example_table
    from cook.executors import process
    from cook.pack.planner import plan
    from cook.read.lines import LineReader, byte_ranges
    from cook.shapes.context_qa import ContextQA, parse_entry
    from cook.shapes.protocol import assemble
    from cook.store import columns, pages
    from cook.store import write as parquet
    from cook.tokenizer.loading import load_engine, resolve_tokenizer

    process.configure_process()
    recipe = Recipe(datasets="all", tokenizer="llama3", engine="splintr", cache="none")
    times = dict.fromkeys(
        (
            "start-up",
            "hash",
            "read and parse",
            "format",
            "encode",
            "assemble",
            "spool",
            "plan",
            "gather",
            "write",
        ),
        0.0,
    )
    clock = time.perf_counter

    @contextlib.contextmanager
    def counted(stage: str) -> Iterator[None]:
        begun = clock()
        yield
        times[stage] += clock() - begun

    with counted("start-up"):
        subprocess.run([sys.executable, "-c", "import cook.cli.app, cook.pipeline.build, splintr"], check=True)
    tokenizer = resolve_tokenizer(recipe)
    engine, shape = load_engine(tokenizer), ContextQA(recipe, tokenizer)
    for name in sorted(path.name for path in source.iterdir()):
        tables, path = [], str(scratch / "stage")
        with spool.open_writer(path, 0) as (writer, done):
            for shard in sorted((source / name / "shard").glob("*.jsonl")):
                with counted("hash"):
                    sha256_of(shard)
                for part in byte_ranges(shard, shard.stat().st_size):
                    lines = iter(LineReader(part))
                    more = True
                    while more:
                        entries, size = [], 0
                        with counted("read and parse"):
                            while size < BATCH_BYTES and (more := (line := next(lines, None)) is not None):
                                if not isinstance(line, Problem):
                                    entries.append(parse_entry(part.path, line))
                                    size += len(line.text)
                        if not entries:
                            continue
                        with counted("format"):
                            segments = shape.segments(entries)
                        with counted("encode"):
                            ids, offsets = engine.encode(segments.texts)
                        with counted("assemble"):
                            made = assemble(segments, ids, offsets)
                            table = example_table(made, writer.tokens)
                        with counted("spool"):
                            writer.write(made.raw)
                        tables.append(table)
            examples = np.concatenate(tables)
            done.append(spool.SpoolIndex(examples, np.empty(0, records.SKIPPED_ROW_DTYPE)))
        fits = examples[examples["tokens"] <= recipe.max_length]
        with counted("plan"):
            planned = plan(fits["tokens"].astype(np.int64), recipe.max_length, recipe.packing)
        placed = np.zeros(len(fits), records.PLACED_EXAMPLE_DTYPE)
        for field in ("at", "tokens", "trained", "line"):
            placed[field] = fits[field]
        job = parquet.FileJob(str(scratch / "stage.parquet"), (ids_path(path),), placed[planned.order], planned.starts)
        lengths = job.examples["tokens"].astype(np.int64)
        with open(job.path, "wb") as file, parquet._mapped(job.spools) as maps:
            out = pages.ParquetWriter(file, columns.SEQUENCE_COLUMNS)
            for rows in records.split_rows(records.tokens_per_sequence(job.starts, lengths), parquet.ROW_GROUP_TOKENS):
                with counted("gather"):
                    group = parquet._row_group_columns(job, maps, *rows)
                with counted("write"):
                    out.write(group)
            out.close()
    return times


SECTIONS = ("speed", "engine", "scaling", "recook", "memory", "packing", "stages", "codecs")


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the collection that is grown")
    parser.add_argument("--recipe", type=Path, help="the published recipe's script, for speed")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--scratch", type=Path, help="folder that keeps grown collections between runs")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = arguments.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        bench = Bench(arguments.source, arguments.recipe, scratch, arguments.repeats)
        for section in arguments.only.split(","):
            getattr(bench, section)()


if __name__ == "__main__":
    main()
