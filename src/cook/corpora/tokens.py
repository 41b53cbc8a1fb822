"""Texts -> ids in spool files, BOS before and EOS after each; then pieces of at most a sequence. Nothing is lost.

To the stages after this one a text is an example of which the input is BOS alone and the output all the rest: so the
loss mask is 1 on everything but BOS. A piece that goes on with a text has no BOS, and all of it is output.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cook import pack, spool
from cook.corpora.documents import Baked, Source, Texts, baked
from cook.corpora.recipe import WRAP, CorpusRecipe
from cook.corpora.render import Renderer
from cook.errors import unwritable
from cook.gather import mapped
from cook.marks import Marks
from cook.recipe import Recipe
from cook.spool import EXAMPLE, PLACE, SKIPPED, Index
from cook.store.parquet import PLACED
from cook.tokenize import BATCH, Job, checked, example_table, unchanged, with_control_tokens
from cook.tokenizer import load_engine, special_strings

AT_ONCE = 1 << 20  # rows


def tokenize(job: Job) -> Baked:
    """Encode the texts that begin in a part. Raises SourceError, TokenizerError, OutputError; bad lines come back."""
    recipe, result = job.recipe, baked()
    assert isinstance(recipe, CorpusRecipe)
    encode = checked(load_engine(job.tokenizer), job.tokenizer)
    marks = Marks((), special_strings(job.tokenizer))
    texts = Texts(Renderer(recipe.styles, recipe.seed), result, BATCH)
    tables = [np.empty(0, EXAMPLE)]
    with spool.writing(job.whole, job.size()) as (writer, done):
        for documents, rendered in texts.batches(Source(recipe, job.part, job.limit, marks.look)):
            if result.problem_count:
                continue
            ids, ends = encode([text.text for text in rendered])
            offsets = np.repeat(ends, 2)[:-1]  # before each text an input without text
            table = example_table(offsets, job.tokenizer, writer.tokens)
            table["line"] = [document.line for document in documents]
            table["pairs"] = [sum(len(passage.pairs) for passage in document.passages) for document in documents]
            writer.write(with_control_tokens(ids, offsets, job.tokenizer))
            tables.append(table)
        unchanged(job)
        done.append(Index(np.concatenate(tables), np.empty(0, SKIPPED)))
    examples = np.concatenate(tables)
    result.whole = examples[list(PLACE.names or ())].astype(PLACE)
    result.kept_pairs = int(examples["pairs"].sum())
    result.special = marks.special
    totals = examples["tokens"]
    if len(totals):
        at = int(totals.argmax())
        result.longest, result.longest_line = int(totals[at]), int(examples["line"][at])
    return result


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
                pieces = pack.cut(lengths, recipe.max_length, at if wraps else None)
                rows = texts[pieces.text]
                rows["at"] += pieces.begin
                untrained = np.clip(rows["tokens"] - rows["trained"] - pieces.begin, 0, pieces.length)
                rows["tokens"], rows["trained"] = pieces.length, pieces.length - untrained
                file.write(rows.tobytes())
                at += int(lengths.sum())
        os.replace(path, folder / "placed")
    except OSError as exc:
        raise unwritable(path, exc, placed.nbytes) from exc
