"""The texts of a corpus, to be encoded as the shape `text`; then pieces of at most a sequence. Nothing is lost.

The loss mask is 1 on everything but BOS. A piece that continues a text has no BOS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cook.core.errors import unwritable
from cook.core.files import mapped
from cook.core.recipe import Recipe
from cook.core.records import PLACED, SKIPPED
from cook.corpora.documents import Source, Texts
from cook.corpora.recipe import WRAP, CorpusRecipe
from cook.corpora.render import Renderer
from cook.encode.parts import BATCH, Batch, Job, Tokenized
from cook.pack import planner
from cook.shapes.special_text import Marks
from cook.shapes.text import Text

NONE = np.empty(0, SKIPPED)
AT_ONCE = 1 << 20  # rows


def read_texts(job: Job, result: Tokenized, marks: Marks) -> Iterator[Batch]:
    """The texts that begin in a part, rendered; see `cook.encode.parts.Reader`."""
    recipe = job.recipe
    assert isinstance(recipe, CorpusRecipe)
    texts = Texts(Renderer(recipe.styles, recipe.seed), result, BATCH)
    for documents, rendered in texts.batches(Source(recipe, job.part, job.limit, marks.look)):
        units = [sum(len(passage.pairs) for passage in document.passages) for document in documents]
        records = zip(documents, rendered, units, strict=True)
        yield Batch([Text(document.line, 0, made.text, count) for document, made, count in records], NONE)
    yield Batch([], result.skipped)


def cut(recipe: Recipe, folder: Path) -> None:
    """The table `placed` of all texts in a folder -> that of their pieces. Raises OutputError."""
    wraps = recipe.packing == WRAP
    placed, path = mapped(folder / "placed", PLACED), folder / "pieces"
    at = 0
    try:
        with path.open("wb") as file:
            for begin in range(0, len(placed), AT_ONCE):
                texts = placed[begin : begin + AT_ONCE]
                lengths = texts["tokens"].astype(np.int64)
                pieces = planner.cut(lengths, recipe.max_length, at if wraps else None)
                rows = texts[pieces.text]
                rows["at"] += pieces.begin
                untrained = np.clip(rows["tokens"] - rows["trained"] - pieces.begin, 0, pieces.length)
                rows["tokens"], rows["trained"] = pieces.length, pieces.length - untrained
                file.write(rows.tobytes())
                at += int(lengths.sum())
        os.replace(path, folder / "placed")
    except OSError as exc:
        raise unwritable(path, exc, placed.nbytes) from exc
