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
from cook.core.errors import BadLines, RecipeError
from cook.core.progress import Progress, silent
from cook.core.recipe import Recipe
from cook.core.results import Result, Summary
from cook.corpora import documents, text_files, tokens
from cook.corpora.recipe import CorpusRecipe
from cook.encode import tokenized
from cook.encode.parts import MAX_PROBLEMS
from cook.encode.tokenized import Dough
from cook.executors.local import results
from cook.pipeline import limits, runner
from cook.pipeline.build import EncodingStrategy, inputs, limited, tell_named, unread
from cook.pipeline.runner import Means, Ready
from cook.read import source
from cook.read.source import Shard
from cook.store import dataset_card, kinds, manifest, staging
from cook.store.manifest import versions
from cook.store.replace import older


def make_corpus(recipe: CorpusRecipe, progress: Progress | None = None) -> Summary:
    """Make texts of the datasets of a recipe: all that `cook corpus` does from a shell.

    Raises CookError, of one dataset or several as `cook.run` does. Large inputs are worked on by spawned processes: a
    script that calls this does so under `if __name__ == "__main__":`.
    """
    if recipe.output is None:
        raise RecipeError("output: name the folder that gets a folder a dataset")
    return runner.over(recipe, progress or silent, _texts if recipe.is_text else _tokens)


def _tokens(means: Means) -> contextlib.AbstractContextManager[Ready]:
    return runner.kitchen(means, strategy=strategy_of(means.recipe))


def strategy_of(recipe: Recipe) -> EncodingStrategy:
    """How entries become the examples of a packed corpus."""
    assert isinstance(recipe, CorpusRecipe)
    return EncodingStrategy(
        kind=kinds.PACKED,
        shape="text",
        read=tokens.read_texts,
        split_examples=tokens.cut,
        extra_counts=documents.counts,
        extra_manifest={"styles": recipe.styles.data},
        splits=False,
        uses_cache=False,
    )


@contextlib.contextmanager
def _texts(means: Means) -> Iterator[Ready]:
    root = Path(means.recipe.output or "")
    source.refuse_inside(means.source, root)
    dataset_card.refuse_others(root, corpora=True)
    if not means.recipe.limit:
        means.progress("render", 0, means.size)
    yield Ready(functools.partial(_make_text, means, root), root, "")


def _make_text(means: Means, root: Path, name: str, shards: list[Shard]) -> Result:
    """One dataset as text, or find it up to date."""
    begun = time.perf_counter()
    recipe = means.recipe
    assert isinstance(recipe, CorpusRecipe)
    head = {
        "format_version": manifest.FORMAT_VERSION,
        "kind": kinds.CORPUS,
        "dataset": name,
        "recipe": recipe.determining(),
        "source": means.source.provenance(),
        "inputs": inputs(shards, means.hasher),
        **unread(means.source, name),
    }
    tell_named(name, shards)
    old = older(root / name, head, recipe.overwrite)
    if old is not None:
        means.progress("render", sum(shard.size for shard in shards))
        limits.refuse_bad_lines(recipe, root / name, old)
        return Result(root / name, old, True, time.perf_counter() - begun)
    with staging.staging(root, name) as staged:
        out = staged / "out"
        out.mkdir()
        dough, done = _write(means, recipe, shards, staged)
        written = [(job, file) for job, file in done if file.rows]
        if not written:
            raise limits.none_left(name, "text", dough)
        outputs = []
        for index, (job, file) in enumerate(written):
            path = out / f"train-{index:05}-of-{len(written):05}.{recipe.format}"
            Path(job.path).rename(path)
            row = {"name": path.name, "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}
            outputs.append({"split": "train", **row})
        made = head | versions() | {"styles": recipe.styles.data, "counts": _counts(dough, done)}
        made["outputs"] = outputs + tokenized.write_skipped(out, shards, dough)
        files.write_bytes(out / manifest.NAME, manifest.seal(made))
        staging.publish(out, root, name)
    return Result(root / name, made, False, time.perf_counter() - begun)


Done = list[tuple[text_files.TextJob, text_files.TextDone]]


def _write(means: Means, recipe: CorpusRecipe, shards: list[Shard], folder: Path) -> tuple[Dough, Done]:
    """Every file, in parallel; with a limit one after the other, until it is reached. Raises BadLines."""
    jobs = ((0, job) for job in text_files.jobs(recipe, shards, folder))
    working = (
        limited(means.pool, text_files.write, list(jobs))
        if recipe.limit
        else results(means.pool, text_files.write, jobs)
    )
    dough, done = Dough([], [], []), []
    for (_, job), file in working:
        for piece, part in zip(job.pieces, file.parts, strict=True):
            part.skipped["line"] += piece.lines
            part.bad = [(line + piece.lines, what) for line, what in part.bad]
            part.problems = [problem._replace(line=problem.line + piece.lines) for problem in part.problems]
            dough.parts.append(part)
            dough.shard_of.append(piece.index)
            means.progress("render", piece.part.size(piece.shard.size))
        done.append((job, file))
        if any(part.problem_count for part in file.parts):
            break
    working.close()
    _refuse_bad_lines(dough, len(shards), recipe.on_error == "fail")
    return dough, done


def _refuse_bad_lines(dough: Dough, shards: int, skippable: bool) -> None:
    """Raise BadLines for the first shard that has any."""
    first = next((shard for shard, part in zip(dough.shard_of, dough.parts, strict=True) if part.problem_count), None)
    if first is None:
        return
    of_shard = [part for shard, part in zip(dough.shard_of, dough.parts, strict=True) if shard == first]
    problems = list(itertools.chain.from_iterable(part.problems for part in of_shard))
    count = sum(part.problem_count for part in of_shard)
    raise BadLines(problems[:MAX_PROBLEMS], count, shards - 1 - first, skippable)


def _counts(dough: Dough, done: Done) -> dict[str, Any]:
    return {
        "entries": dough.total("entries"),
        "pairs": dough.total("units"),
        "letters": sum(file.letters for _, file in done),
        **documents.counts(dough.parts),
        **records.left_out(*dough.skipped()),
    }
