"""Mix the sequences of several datasets into one shuffled stream, in a folder of its own.

    sources    the datasets of a root, each opened and checked
    shares     sizes and weights -> how many sequences each dataset gives        (pure; exact fractions)
    stream     sizes and shares -> which sequence of which dataset, in order     (pure; keyed hashes)
    unpack     Parquet -> ids in one spool file; each needed row group read once  (store.read; a job an input file)
    write      the stream's files, from the spool                                 (store.write; a job an output file)

Memory holds the plan alone: some bytes a sequence. Tokens (4 bytes each) and examples are memory-mapped files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cook.core import catalog, records
from cook.core.arrays import offsets, ranges
from cook.core.errors import OutputError, RecipeError, refuse_empty
from cook.core.files import write_bytes
from cook.core.progress import Progress, no_progress
from cook.core.results import OutputResult
from cook.executors import local, process
from cook.executors.local import ordered_results
from cook.pack.mix_plan import MAX_SEQUENCES, Array, MixSettings, allocate_sequences, check_settings, plan_stream
from cook.store import columns, dataset_card, kinds, manifest, staging, write
from cook.store.manifest import versions
from cook.store.outputs import Cooked, read_cooked
from cook.store.read import UnpackJob, unpack_file
from cook.store.replace import existing_result

TOKENIZER_IDENTITY = ("fingerprint", "bos", "bos_id", "eos", "eos_id")  # what datasets of one mix agree in
COUNT_FIELDS = ("sequences", "tokens", "trained_tokens")


class Mixed(OutputResult):
    """A finished mix."""

    @property
    def counts(self) -> dict[str, Any]:
        """Of each dataset: what it held, what was asked of it, and what it gave."""
        counts: dict[str, Any] = self.manifest["datasets"]
        return counts


def mix(
    root: str | Path,
    to: str | Path,
    *,
    weights: Mapping[str, float] | None = None,
    sequences: int | None = None,
    seed: int = 0,
    split: str = "train",
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Mixed:
    """Mix the datasets of `root` into the folder `to`: all that `cook mix` does from a shell.

    A weight is a factor on a dataset's size: 1 where none is given, 0 leaves the dataset out. Without `sequences`, a
    weight of 2 takes each sequence twice, and 0.5 takes a seeded half once. With `sequences`, that many are shared out
    in proportion to size times weight. Of one dataset, no sequence is taken more than once more often than another.

    Raises RecipeError for settings, OutputError for what cannot be read or written, and OutputExists.
    """
    refuse_empty(root=root, to=to)
    begun = time.perf_counter()
    root, to = Path(root), _output_folder(to)
    found = _find_datasets(root, to)
    settings = check_settings(weights or {}, sequences, seed, split, jobs, list(found))
    cores = jobs or process.usable_cores()
    taken = [folder for name, folder in found.items() if settings.weights.get(name) != 0]
    if not taken:
        raise RecipeError("weights: all datasets are left out")
    size = sum(map(_parquet_bytes, taken))
    # As in `pipeline.runner`: an interrupt ends the pool's work first, and so lets the coordinator clean up and end.
    with (
        local.local_executor(cores, size, (__name__,)) as pool,
        local.dataset_threads(cores) as threads,
        local.cancel_on_error(pool),
    ):
        future = threads.submit(_build_mix, taken, to, settings, pool, overwrite, progress or no_progress)
        fields, up_to_date = future.result()
    return Mixed(to, fields, up_to_date, time.perf_counter() - begun)


def _output_folder(to: str | Path) -> Path:
    folder = Path(to)
    if folder.name in ("", ".."):
        folder = folder.resolve()
    if not catalog.is_safe(folder.name):
        raise RecipeError(f"to: {str(to)!r} cannot name a folder for a mix")
    return folder


def _find_datasets(root: Path, to: Path) -> dict[str, Path]:
    """The dataset folders in a root by name, in the order of bytes; no mixes or exports. Raises OutputError."""
    # What a kill between two renames left aside is one as well: the reader finds it.
    set_aside = (
        path.parent.name.removesuffix(".old")
        for path in root.glob(f"{staging.WORK_DIR}/*.old/{manifest.MANIFEST_NAME}")
    )
    names = {path.parent.name for path in root.glob(f"*/{manifest.MANIFEST_NAME}")} | set(set_aside)
    found = {}
    for name in sorted(names, key=str.encode):
        folder = root / name
        if folder.resolve() != to.resolve() and not _is_derived(folder):
            found[name] = folder
    if not found:
        hint = f": {root.resolve().parent}" if (root / manifest.MANIFEST_NAME).exists() else ""
        raise OutputError(f"{root}: holds no cooked dataset; a root is what `cook --output` names{hint}")
    return found


def _is_derived(folder: Path) -> bool:
    """Whether a folder holds what is made of datasets: a mix or an export."""
    try:
        return "mix" not in kinds.kind_of(manifest.read_manifest(folder)).readers
    except OutputError:
        return False  # a damaged one is refused when it is opened, unless its weight is 0


def _parquet_bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.glob("*.parquet"))
    except OSError:
        return 0  # likewise


def _build_mix(
    folders: list[Path], to: Path, settings: MixSettings, pool: Executor, overwrite: bool, progress: Progress
) -> tuple[dict[str, Any], bool]:
    """The mix's manifest, and whether it was there already."""
    sources = [opened for _, opened in ordered_results(pool, read_cooked, ((0, folder) for folder in folders))]
    _require_one_tokenizer(sources)
    head = _identity_fields(sources, settings)
    old = existing_result(to, head, overwrite)
    if old is not None:
        return old, True
    mixing = _MixBuilder(sources, settings)
    with staging.staging_folder(to.parent, to.name) as staged:
        out = staged / "out"
        out.mkdir()
        mixing.unpack(staged, pool, progress)
        outputs = mixing.write_files(out, pool, progress)
        fields = head | versions() | mixing.summarize() | {"outputs": outputs}
        for source, row in zip(sources, head["sources"], strict=True):
            if manifest.digest(manifest.read_manifest(source.folder)) != row["sha256"]:
                raise OutputError(f"{source.folder}: changed while it was read; run again")
        write_bytes(out / dataset_card.CARD_NAME, dataset_card.render_mix_card(fields).encode())
        write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
        staging.publish(out, to.parent, to.name)
    return fields, False


def _require_one_tokenizer(sources: list[Cooked]) -> None:
    """Raise OutputError where datasets have different tokenizers."""
    first = sources[0].manifest["tokenizer"]
    problems = []
    for source in sources[1:]:
        other = source.manifest["tokenizer"]
        differing = [
            f"{field} {other[field]!r} and {first[field]!r}"
            for field in TOKENIZER_IDENTITY
            if other[field] != first[field]
        ]
        if differing:
            problems.append(
                f"{source.folder}: is of tokenizer {other['name']}, {sources[0].folder} of {first['name']}: "
                + ", ".join(differing)
            )
    if problems:
        raise OutputError(*problems, "datasets of one mix must agree in these; weight 0 leaves one out")


def _identity_fields(sources: list[Cooked], settings: MixSettings) -> dict[str, Any]:
    """The manifest's fields that determine the bytes."""
    return {
        "format_version": manifest.FORMAT_VERSION,
        "kind": kinds.MIX,
        "mix": {
            "seed": settings.seed,
            "sequences": settings.sequences,
            "split": settings.split,
            "weights": {name: float(weight) for name, weight in settings.weights.items() if weight != 1},
        },
        "tokenizer": sources[0].manifest["tokenizer"],
        "sources": [
            {
                "name": source.manifest["dataset"],
                "sha256": manifest.digest(source.manifest),
                "tokenizer": source.manifest["tokenizer"]["name"],
                "max_length": source.manifest["recipe"]["max_length"],
                "kind": source.kind.name,
                "mask_rule": source.manifest["mask_rule"],
            }
            | ({"source": "sample"} if source.manifest.get("source") == {"kind": "sample"} else {})
            for source in sources
        ],
    }


class _MixBuilder:
    """One mix in the making: its plan, and the spool that holds its sequences."""

    def __init__(self, sources: list[Cooked], settings: MixSettings) -> None:
        self.names: list[str] = [source.manifest["dataset"] for source in sources]
        self.files = [list(_split_files(source, settings.split)) for source in sources]
        without = [name for name, files in zip(self.names, self.files, strict=True) if not files]
        if without:
            raise RecipeError(f"split: {', '.join(without)} has no {settings.split}; weight 0 leaves a dataset out")
        self.settings = settings
        self.sizes = [sum(row["rows"] for _, row in files) for files in self.files]
        weights = [settings.weights.get(name, Fraction(1)) for name in self.names]
        self.exact_shares, self.sequence_counts = allocate_sequences(self.sizes, weights, settings.sequences)
        if not 0 < sum(self.sequence_counts) <= MAX_SEQUENCES:
            raise RecipeError(
                f"weights: the mix would have {sum(self.sequence_counts):,} sequences; it can have 1 "
                f"to {MAX_SEQUENCES:,}"
            )
        self.stream = plan_stream(self.names, self.sizes, self.sequence_counts, settings.seed)
        self.placed = np.empty(0, records.PLACED_EXAMPLE_DTYPE)

    def unpack(self, folder: Path, pool: Executor, progress: Progress) -> None:
        """Spool the sequences that the stream needs, and renumber the stream to count these alone."""
        spool, table = folder / "ids", folder / "placed"
        spool.touch()
        times = np.bincount(self.stream, minlength=sum(self.sizes))
        counts = [np.zeros(1, np.int64)]
        with table.open("wb") as file:
            jobs = list(self._jobs(spool, times > 0))
            progress("unpack", 0, sum(tokens for tokens, _ in jobs))
            for (tokens, job), part in ordered_results(pool, unpack_file, iter(jobs)):
                file.write(part.examples.tobytes())
                counts.append(part.counts)
                progress("unpack", tokens)
                del job, part
        self.spool = str(spool)
        self.placed = np.asarray(np.memmap(table, records.PLACED_EXAMPLE_DTYPE, "r"))
        self.starts = np.cumsum(np.concatenate(counts))
        self.tokens, self.trained = self._sum_by_sequence("tokens"), self._sum_by_sequence("trained")
        wanted = np.flatnonzero(times)
        self.stream = np.searchsorted(wanted, self.stream)
        self.dataset = np.searchsorted(np.cumsum(self.sizes), wanted, side="right")

    def _jobs(self, spool: Path, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, UnpackJob]]:
        row = at = 0
        for path, output in (file for files in self.files for file in files):
            wanted_rows = wanted[row : row + output["rows"]]
            if wanted_rows.any():
                yield output["tokens"], UnpackJob(str(path), str(spool), at, wanted_rows)
            row += output["rows"]
            at += output["tokens"]

    def _sum_by_sequence(self, field: str) -> Array:
        """The sum of a field of the examples, per sequence; in blocks, since the table grows with the input."""
        sums = np.empty(len(self.starts) - 1, np.int64)
        for begin in range(0, len(sums), 1 << 16):
            starts = self.starts[begin : begin + (1 << 16) + 1]
            examples = self.placed[starts[0] : starts[-1]]
            sums[begin : begin + (1 << 16)] = records.tokens_per_sequence(
                starts - starts[0], examples[field].astype(np.int64)
            )
        return sums

    def write_files(self, out: Path, pool: Executor, progress: Progress) -> list[dict[str, Any]]:
        """Write the files of the stream; returns the manifest's outputs."""
        ranges = records.split_rows(self.tokens[self.stream], write.FILE_TOKENS)
        names = columns.file_names(len(ranges), self.settings.split)
        jobs = ((0, self._file_job(out / name, *rows)) for name, rows in zip(names, ranges, strict=True))
        outputs = []
        progress("gather", 0, int(self.tokens[self.stream].sum()))
        for _, done in ordered_results(pool, write.write_parquet_file, jobs):
            outputs.append({"split": self.settings.split, **done._asdict()})
            progress("gather", done.tokens)
        return outputs

    def _file_job(self, path: Path, first: int, last: int) -> write.FileJob:
        rows = self.stream[first:last]
        begins, counts = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        examples, starts = self.placed[ranges(begins, counts)], offsets(counts)
        names = tuple(self.names[index] for index in self.dataset[rows].tolist())
        return write.FileJob(str(path), (self.spool,), examples, starts, names)

    def summarize(self) -> dict[str, Any]:
        """The manifest's counts of each dataset: held, asked and given. What is asked may be a fraction."""
        stream_datasets = self.dataset[self.stream]
        amounts = np.ones(len(stream_datasets)), self.tokens[self.stream], self.trained[self.stream]
        given = [np.bincount(stream_datasets, each, len(self.names)).astype(np.int64).tolist() for each in amounts]
        rows = {}
        for index, name in enumerate(self.names):
            held = [sum(row[key] for _, row in self.files[index]) for key in ("rows", *COUNT_FIELDS[1:])]
            asked = [round(float(self.exact_shares[index] * amount / held[0]), 3) for amount in held]
            got = [values[index] for values in given]
            rows[name] = {
                label: dict(zip(COUNT_FIELDS, values, strict=True))
                for label, values in (("held", held), ("asked", asked), ("given", got))
            }
        return {"datasets": rows, "counts": dict(zip(COUNT_FIELDS, map(sum, given), strict=True))}


def _split_files(source: Cooked, split: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for output in source.manifest["outputs"]:
        if output.get("split") == split:
            yield source.folder / output["name"], output
