"""Recipe of a corpus -> its datasets, side by side over an executor, as `pipeline.runner` cooks them -> a summary."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cook.core import files, records
from cook.core.errors import MAX_PROBLEMS, BadLines, RecipeError
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.core.results import Result, Summary
from cook.corpora import documents, text_files, tokens
from cook.corpora.recipe import CorpusRecipe
from cook.encode import tokenized
from cook.encode.parts import lines_if_all_failed
from cook.encode.tokenized import TokenizedDataset
from cook.executors.local import ordered_results
from cook.pipeline import limits, runner
from cook.pipeline.context import EncodingStrategy
from cook.pipeline.encoding import run_until_limit
from cook.pipeline.identity import input_rows, unread_field, warn_of_named_shards
from cook.pipeline.runner import DatasetRunner, RunResources
from cook.read import source
from cook.read.source import Shard
from cook.store import columns, dataset_card, kinds, manifest, staging
from cook.store.manifest import versions
from cook.store.replace import existing_result


def make_corpus(recipe: CorpusRecipe, progress: Progress | None = None) -> Summary:
    """Make texts of the datasets of a recipe: all that `cook corpus` does from a shell.

    Raises CookError, of one dataset or several as `cook.run` does. Large inputs are worked on by spawned processes: a
    script that calls this does so under `if __name__ == "__main__":`.
    """
    if recipe.output is None:
        raise RecipeError("output: name the folder that gets a folder a dataset")
    return runner.run_datasets(recipe, progress or no_progress, _texts_runner if recipe.is_text else _sequences_runner)


def _sequences_runner(resources: RunResources) -> contextlib.AbstractContextManager[DatasetRunner]:
    return runner.sequence_runner(resources, strategy=corpus_strategy(resources.recipe))


def corpus_strategy(recipe: Recipe) -> EncodingStrategy:
    """How entries become the examples of a packed corpus."""
    assert isinstance(recipe, CorpusRecipe)
    return EncodingStrategy(
        kind=kinds.PACKED,
        shape="text",
        read=tokens.read_texts,
        split_examples=tokens.cut_into_pieces,
        extra_counts=documents.corpus_counts,
        extra_manifest={"styles": recipe.styles.data},
        uses_named_splits=False,
        uses_cache=False,
    )


@contextlib.contextmanager
def _texts_runner(resources: RunResources) -> Iterator[DatasetRunner]:
    root = Path(resources.recipe.output or "")
    source.refuse_inside(resources.source, root)
    dataset_card.refuse_mixed_root(root, corpora=True)
    if not resources.recipe.limit:
        resources.progress("render", 0, resources.size)
    yield DatasetRunner(functools.partial(_make_text, resources, root), root, "")


def _make_text(resources: RunResources, root: Path, name: str, shards: list[Shard]) -> Result:
    """One dataset as text, or find it up to date."""
    begun = time.perf_counter()
    recipe = resources.recipe
    assert isinstance(recipe, CorpusRecipe)
    identity = {
        "format_version": manifest.FORMAT_VERSION,
        "kind": kinds.CORPUS,
        "dataset": name,
        "recipe": recipe.determining(),
        "source": resources.source.provenance(),
        "inputs": input_rows(shards, resources.hasher),
        **unread_field(resources.source, name),
    }
    warn_of_named_shards(name, shards)
    old = existing_result(root / name, identity, recipe.overwrite)
    if old is not None:
        resources.progress("render", sum(shard.size for shard in shards))
        limits.enforce_no_bad_lines(recipe, root / name, old)
        return Result(root / name, old, True, time.perf_counter() - begun)
    with staging.staging_folder(root, name) as staged:
        out = staged / "out"
        out.mkdir()
        dataset, done = _write_files(resources, recipe, shards, staged)
        written = [(job, file) for job, file in done if file.rows]
        if not written:
            raise limits.nothing_left_error(name, "text", dataset)
        outputs = []
        file_names = columns.file_names(len(written), suffix=recipe.format)
        for file_name, (job, file) in zip(file_names, written, strict=True):
            Path(job.path).rename(out / file_name)
            row = {"name": file_name, "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}
            outputs.append({"split": "train", **row})
        fields = identity | versions() | {"styles": recipe.styles.data, "counts": _manifest_counts(dataset, done)}
        fields["outputs"] = outputs + tokenized.write_skipped(out, shards, dataset)
        files.write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
        staging.publish(out, root, name)
    return Result(root / name, fields, False, time.perf_counter() - begun)


WrittenFiles = list[tuple[text_files.TextJob, text_files.TextDone]]


def _write_files(
    resources: RunResources, recipe: CorpusRecipe, shards: list[Shard], folder: Path
) -> tuple[TokenizedDataset, WrittenFiles]:
    """Every file, in parallel; with a limit one after the other, until it is reached. Raises BadLines."""
    jobs = ((0, job) for job in text_files.text_jobs(recipe, shards, folder))
    working = (
        run_until_limit(resources.pool, text_files.write_text_file, list(jobs))
        if recipe.limit
        else ordered_results(resources.pool, text_files.write_text_file, jobs)
    )
    dataset, done = TokenizedDataset([], []), []
    for (_, job), file in working:
        for piece, part in zip(job.shard_parts, file.parts, strict=True):
            part.skipped["line"] += piece.lines_before
            part.bad = [(line + piece.lines_before, what) for line, what in part.bad]
            part.problems = [problem._replace(line=problem.line + piece.lines_before) for problem in part.problems]
            dataset.parts.append(part)
            dataset.shard_of.append(piece.shard_index)
            resources.progress("render", piece.part.size(piece.shard.size))
        done.append((job, file))
        if any(part.problem_count for part in file.parts):
            break
    working.close()
    _raise_bad_lines(dataset, len(shards), recipe.on_error == "fail")
    return dataset, done


def _raise_bad_lines(dataset: TokenizedDataset, shards: int, skippable: bool) -> None:
    """Raise BadLines for the first shard that has any."""
    first = next(
        (shard for shard, part in zip(dataset.shard_of, dataset.parts, strict=True) if part.problem_count), None
    )
    if first is None:
        return
    of_shard = [part for shard, part in zip(dataset.shard_of, dataset.parts, strict=True) if shard == first]
    problems = list(itertools.chain.from_iterable(part.problems for part in of_shard))
    count = sum(part.problem_count for part in of_shard)
    total = lines_if_all_failed(of_shard)
    raise BadLines(problems[:MAX_PROBLEMS], count, shards - 1 - first, skippable, total)


def _manifest_counts(dataset: TokenizedDataset, done: WrittenFiles) -> dict[str, Any]:
    return {
        "entries": dataset.total("entries"),
        "pairs": dataset.total("units"),
        "letters": sum(file.letters for _, file in done),
        **documents.corpus_counts(dataset.parts),
        **records.skipped_counts(*dataset.skipped_counts()),
    }
