"""Export a cooked dataset or a mix as a folder of another trainer's files; on an error nothing is written.

    open       the folder; check its files by their hashes
    write      each cooked file as the target's, one row group at a time     (one file a job)
    finish     the other files of the target, USE.md, the manifest

A process holds one row group in memory. The bytes depend only on the source and the settings.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from cook._version import __version__
from cook.core import catalog
from cook.core.errors import OutputError, RecipeError, refuse_empty
from cook.core.files import output_row, write_bytes
from cook.core.progress import Progress, no_progress
from cook.core.recipe import SETTING_CHECKS
from cook.core.results import OutputResult
from cook.executors import local, process
from cook.executors.local import ordered_results
from cook.store import kinds, manifest, staging
from cook.store.outputs import Cooked, read_cooked
from cook.store.replace import existing_result
from cook.tokenizer.loading import resolve_recorded
from cook.trainers import jsonl, olmo, tables, usage
from cook.trainers.job import COUNT_FIELDS, ExportDone, ExportJob, ExportSettings


@dataclasses.dataclass(frozen=True)
class Target:
    """A trainer's file format: the writer of one part, and the writer of the files beside all parts."""

    write: Callable[[ExportJob], ExportDone]
    finish: Callable[[Path, ExportSettings, list[ExportDone]], list[Path]] = lambda out, settings, parts: []  # noqa: ARG005
    chooses_attention: bool = False
    """Whether the data, not the trainer, says if examples see earlier ones."""
    decodes: bool = False


TARGETS = {
    "trl": Target(tables.write_parquet),
    "hf": Target(tables.write_parquet, chooses_attention=True),
    "llama-factory": Target(tables.write_arrow, tables.finish_arrow),
    "axolotl": Target(tables.write_parquet),
    "torchtune": Target(tables.write_parquet),
    "megatron-bridge": Target(tables.write_parquet),
    "olmo-core": Target(olmo.write_olmo_core),
    "jsonl": Target(jsonl.write_jsonl, decodes=True),
}
ATTENTIONS = ("isolated", "few-shot")


class Exported(OutputResult):
    """A finished export. Its counts are the rows of the target, and the sequences, examples and tokens in them."""


def export(
    folder: str | Path,
    target: str,
    to: str | Path,
    *,
    split: str = "train",
    attention: str | None = None,
    tokenizer: str | None = None,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a cooked dataset or a mix into `to` as another trainer reads it, as `cook export` does.

    `attention` is for the target hf only: with "isolated" (the default) positions start again at each example, with
    "few-shot" they run through the sequence. `tokenizer` is for jsonl only; None: the one in the manifest.

    Raises RecipeError for settings, TokenizerError, OutputError for files that cannot be read or written, OutputExists.
    """
    refuse_empty(folder=folder, to=to, tokenizer=tokenizer)
    begun = time.perf_counter()
    folder, to = Path(folder), _output_folder(to)
    _check_settings(target, attention, tokenizer, jobs)
    source = read_cooked(folder)
    settings = _build_settings(source, target, split, attention, tokenizer)
    if to.resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"to: {to} is the folder that is exported, or lies in it; choose another")
    size = sum(output["bytes"] for output in source.manifest["outputs"])
    cores = jobs or process.usable_cores()
    # As in `pipeline.mixing.mix`.
    with (
        local.local_executor(cores, size, (__name__,)) as pool,
        local.dataset_threads(cores) as threads,
        local.cancel_on_error(pool),
    ):
        future = threads.submit(_build_export, source, to, settings, pool, overwrite, progress or no_progress)
        fields, up_to_date = future.result()
    return Exported(to, fields, up_to_date, time.perf_counter() - begun)


def _output_folder(to: str | Path) -> Path:
    folder = Path(to)
    if folder.name in ("", ".."):
        folder = folder.resolve()
    if not catalog.is_safe(folder.name):
        raise RecipeError(f"to: {str(to)!r} cannot name a folder for an export")
    return folder


def _check_settings(target: str, attention: str | None, tokenizer: str | None, jobs: int | None) -> None:
    """Raise RecipeError that lists every wrong setting."""
    problems = []
    known = TARGETS.get(target)
    if known is None:
        problems.append(f"for: {target!r} is no target; there are {', '.join(TARGETS)}")
    if attention is not None and attention not in ATTENTIONS:
        problems.append(f"attention: must be {' or '.join(ATTENTIONS)} (it is {attention!r})")
    elif attention is not None and known and not known.chooses_attention:
        problems.append(f"attention: is for hf only; {target} sets it in the trainer, see its {usage.NAME}")
    if tokenizer is not None and known and not known.decodes:
        problems.append(f"tokenizer: is for jsonl only; {target} needs none")
    if wrong := SETTING_CHECKS["jobs"](jobs):
        problems.append(f"jobs: {wrong} (it is {jobs!r})")
    if problems:
        raise RecipeError(*problems)


def _build_settings(
    source: Cooked, target: str, split: str, attention: str | None, tokenizer: str | None
) -> ExportSettings:
    fields = source.manifest
    if "export" not in source.kind.readers:
        raise RecipeError(str(kinds.wrong_kind_error(source.folder, source.kind)))
    splits = sorted({output["split"] for output in fields["outputs"] if "split" in output})
    if split not in splits:
        raise RecipeError(f"split: {source.folder} has no {split}; it has {', '.join(splits)}")
    lengths = [row["max_length"] for row in fields["sources"]] if source.mixed else [fields["recipe"]["max_length"]]
    return ExportSettings(
        target=target,
        split=split,
        max_length=max(lengths),
        pad_id=fields["tokenizer"]["pad_id"],
        vocab_size=fields["tokenizer"]["vocab_size"],
        few_shot=attention == "few-shot",
        tokenizer=resolve_recorded(fields["tokenizer"], tokenizer) if TARGETS[target].decodes else None,
    )


def _build_export(
    source: Cooked, to: Path, settings: ExportSettings, pool: Executor, overwrite: bool, progress: Progress
) -> tuple[dict[str, Any], bool]:
    """Write the export; its manifest, and whether it was up to date already."""
    head = _identity_fields(source, settings)
    old = existing_result(to, head, overwrite)
    if old is not None:
        return old, True
    target = TARGETS[settings.target]
    with staging.staging_folder(to.parent, to.name) as staged:
        out = staged / "out"
        out.mkdir()
        parts: list[ExportDone] = []
        outputs = [output for output in source.manifest["outputs"] if output.get("split") == settings.split]
        progress("export", 0, sum(output["tokens"] for output in outputs))
        for _, done in ordered_results(pool, target.write, ((0, job) for job in _jobs(source, outputs, out, settings))):
            parts.append(done)
            progress("export", done.tokens)
        files = [path for part in parts for path in part.files] + target.finish(out, settings, parts)
        write_bytes(out / usage.NAME, usage.usage_page(head).encode())
        import numpy as np
        import pyarrow as pa

        fields = head | {
            "outputs": [{"split": settings.split} | output_row(path, out) for path in [*files, out / usage.NAME]],
            "counts": {name: sum(getattr(part, name) for part in parts) for name in COUNT_FIELDS},
            "versions": {"cook": __version__, "numpy": np.__version__, "pyarrow": pa.__version__},
        }
        if manifest.digest(manifest.read_manifest(source.folder)) != head["source"]["sha256"]:
            raise OutputError(f"{source.folder}: changed while it was read; run again")
        write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
        staging.publish(out, to.parent, to.name)
    return fields, False


def _identity_fields(source: Cooked, settings: ExportSettings) -> dict[str, Any]:
    """The manifest's fields that determine the bytes."""
    fields = source.manifest
    attention = ATTENTIONS[settings.few_shot] if TARGETS[settings.target].chooses_attention else None
    return {
        "format_version": manifest.FORMAT_VERSION,
        "kind": kinds.EXPORT,
        "export": {
            "target": settings.target,
            "split": settings.split,
            "attention": attention,
            "max_length": settings.max_length,
        },
        "tokenizer": fields["tokenizer"],
        "source": {
            "kind": source.kind.name,
            "name": ", ".join(row["name"] for row in fields["sources"]) if source.mixed else fields["dataset"],
            "sha256": manifest.digest(fields),
        },
    }


def _jobs(source: Cooked, outputs: list[dict[str, Any]], out: Path, settings: ExportSettings) -> list[ExportJob]:
    return [
        ExportJob(str(source.folder / output["name"]), str(out), index, len(outputs), source.mixed, settings)
        for index, output in enumerate(outputs)
    ]
