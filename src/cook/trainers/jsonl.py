"""Write the target jsonl, for people: a line a sequence, with its text and the spans of it that are trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from cook.core.files import json_line, open_fsynced
from cook.store.read import read_datasets
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.loading import reference_engine
from cook.trainers.job import ExportDone, ExportJob
from cook.trainers.rows import SequenceBatch, read_sequences


def write_jsonl(job: ExportJob) -> ExportDone:
    """Write one file of lines. Raises OutputError, TokenizerError."""
    assert job.settings.tokenizer is not None, "a target that decodes is given its tokenizer"
    engine = reference_engine(job.settings.tokenizer)
    path = job.path(".jsonl")
    done = ExportDone((path,))
    names = read_datasets(job.source) if job.mixed else itertools.repeat([])
    with open_fsynced(path) as file:
        for rows, named in zip(read_sequences(job.source), names, strict=job.mixed):
            done.add(rows)
            done.rows += len(rows.counts)
            for row, (text, spans) in enumerate(_decode_sequences(rows, engine)):
                fields = {"dataset": named[row]} if job.mixed else {}
                file.write(json_line({**fields, "text": text, "spans": spans}))
    return done


def _decode_sequences(rows: SequenceBatch, engine: HfEngine) -> Iterator[tuple[str, list[list[int]]]]:
    """The text of each sequence, and the spans [start, end) of trained text, in characters.

    Inputs and outputs are decoded separately, as they were encoded.
    """
    starts = np.zeros(len(rows.ids), bool)
    starts[rows.example_offsets[:-1]] = True
    starts[1:] |= np.diff(rows.mask) != 0
    bounds = [*np.flatnonzero(starts).tolist(), len(rows.ids)]
    at = 0
    for end in rows.sequence_offsets[1:].tolist():
        text, spans = "", []
        while bounds[at] < end:
            piece = engine.decode(rows.ids[bounds[at] : bounds[at + 1]].tolist())
            if rows.mask[bounds[at]]:
                spans.append([len(text), len(text) + len(piece)])
            text += piece
            at += 1
        yield text, spans
