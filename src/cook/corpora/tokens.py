"""The texts of a corpus, to be encoded as the shape `text`; then pieces of at most a sequence. Nothing is lost.

The loss mask is 1 on everything but BOS. A piece that continues a text has no BOS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cook.core.errors import write_error
from cook.core.files import memory_mapped
from cook.core.recipe import Recipe
from cook.core.records import PLACED_EXAMPLE_DTYPE, SKIPPED_ROW_DTYPE
from cook.corpora.documents import PartInput, TextBatches
from cook.corpora.recipe import WRAP, CorpusRecipe
from cook.corpora.render import Renderer
from cook.encode.parts import BATCH_BYTES, EncodedPart, EncodeJob, RecordBatch
from cook.pack import planner
from cook.shapes.special_text import SpecialTextCounter
from cook.shapes.text import TextRecord

NO_SKIPPED_ROWS = np.empty(0, SKIPPED_ROW_DTYPE)
BATCH_ROWS = 1 << 20  # rows


def read_texts(job: EncodeJob, result: EncodedPart, marks: SpecialTextCounter) -> Iterator[RecordBatch]:
    """The texts that begin in a part, rendered; see `cook.encode.parts.RecordReader`."""
    recipe = job.recipe
    assert isinstance(recipe, CorpusRecipe)
    texts = TextBatches(Renderer(recipe.styles, recipe.seed), result, BATCH_BYTES)
    for documents, rendered in texts.render_batches(PartInput(recipe, job.part, job.limit, marks.count)):
        units = [sum(len(passage.pairs) for passage in document.passages) for document in documents]
        records = zip(documents, rendered, units, strict=True)
        yield RecordBatch(
            [TextRecord(document.line, 0, made.text, count) for document, made, count in records], NO_SKIPPED_ROWS
        )
    yield RecordBatch([], result.skipped)


def cut_into_pieces(recipe: Recipe, folder: Path) -> None:
    """The table `placed` of all texts in a folder -> that of their pieces. Raises OutputError."""
    wraps = recipe.packing == WRAP
    placed, path = memory_mapped(folder / "placed", PLACED_EXAMPLE_DTYPE), folder / "pieces"
    at = 0
    try:
        with path.open("wb") as file:
            for begin in range(0, len(placed), BATCH_ROWS):
                texts = placed[begin : begin + BATCH_ROWS]
                lengths = texts["tokens"].astype(np.int64)
                pieces = planner.cut_at_length(lengths, recipe.max_length, at if wraps else None)
                rows = texts[pieces.text]
                rows["at"] += pieces.begin
                untrained = np.clip(rows["tokens"] - rows["trained"] - pieces.begin, 0, pieces.length)
                rows["tokens"], rows["trained"] = pieces.length, pieces.length - untrained
                file.write(rows.tobytes())
                at += int(lengths.sum())
        os.replace(path, folder / "placed")
    except OSError as exc:
        raise write_error(path, exc, placed.nbytes) from exc
