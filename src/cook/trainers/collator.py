"""Open cooked sequences as a datasets.Dataset, and make batches of torch tensors of them.

A model may see a sequence in two ways. For a sequence of three examples:

    few-shot   [ example 1   example 2   example 3 ]     one segment: later examples see the earlier ones
    isolated   [ example 1 ][ example 2 ][ example 3 ]   one segment each: no example sees another

A *segment* attends only to itself, causally, with positions from 0. Segments reach the model in two layouts:

    flat      (1, all tokens): no padding and no attention_mask. position_ids that start anew, and cu_seq_lens, say
              where segments begin. FlashAttention's variable-length kernels read cu_seq_lens; Hugging Face models
              with sdpa, eager or flex attention find the same in position_ids, if there is neither an attention_mask
              nor a cache (transformers 5, checked with 5.23: `use_cache` is True by default, and then examples see
              one another unnoticed. So a flat batch holds use_cache=False).
    padded    (sequences, longest): padding on the right, and an attention_mask. For few-shot it is the usual 0 and 1,
              which every model reads. For isolated it is (sequences, 1, longest, longest), 0 where a token sees
              another and -inf elsewhere, for attention that does not read position_ids: sdpa and eager add it as it
              is; FlashAttention cannot take it.

Labels are those of the data, not shifted (the model shifts them), with -100 on padding and on the first token of each
example, which nothing in the example precedes. torch and datasets are imported where they are used.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cook.core.arrays import positions
from cook.core.errors import CookError, InputError, OutputError, RecipeError, install_hint
from cook.core.records import IGNORE_INDEX
from cook.store import kinds
from cook.store.outputs import Sequence, read_cooked

if TYPE_CHECKING:
    import datasets

Attention = Literal["few-shot", "isolated"]
Layout = Literal["flat", "padded"]
BATCH_COLUMNS = ("input_ids", "labels", "seq_lengths")  # columns that a batch needs
Ints = npt.NDArray[np.int64]


def load(path: str | os.PathLike[str], split: str = "train", hashes: bool = True) -> datasets.Dataset:
    """Open a split of a dataset, a mix or a corpus as a datasets.Dataset, after the checks of `read_cooked`.

    Its columns are those of the files (`cook.store.write`; for text, `cook.corpora.text_files`). It is mapped from the
    cache of `datasets`, not held in memory. Raises OutputError that names what is missing or damaged, or the split that
    is not there.
    """
    cooked = read_cooked(path, hashes)
    if "load" not in cooked.kind.readers:
        raise kinds.wrong_kind_error(cooked.folder, cooked.kind, "which `cook.load` does not open")
    outputs = cooked.manifest["outputs"]
    files = [glob.escape(str(cooked.folder / output["name"])) for output in outputs if output.get("split") == split]
    if not files:
        held = sorted({output["split"] for output in outputs if "split" in output})
        raise OutputError(f"{path}: has no split {split!r}; it holds {', '.join(held) or 'none'}")
    from datasets import Dataset

    read = Dataset.from_json if files[0].endswith(".jsonl") else Dataset.from_parquet
    try:
        return read(files, split=split)
    except Exception as exc:  # `datasets` raises many kinds, and Arrow's too
        message = " ".join(str(exc.__cause__ or exc).split())
        raise OutputError(f"{path}: cannot be opened: {message}") from exc


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collator:
    """Make a batch for a Hugging Face model, `model(**batch)`, from rows of cooked data.

    Rows come from `cook.load` or `load_dataset`, or are `cook.Sequence`s. Pass it to Hugging Face's Trainer as
    `data_collator` with `remove_unused_columns=False`, because it reads `seq_lengths`. TRL's SFTTrainer keeps that
    column, and needs `max_length=None`. The keys and shapes of a batch, int64 unless the table says otherwise:

    | key | flat | padded |
    | --- | --- | --- |
    | input_ids, labels, position_ids | (1, tokens) | (rows, longest) |
    | attention_mask | | few-shot (rows, longest); isolated (rows, 1, longest, longest) of `mask_dtype` |
    | cu_seq_lens_q, cu_seq_lens_k | (segments + 1,) int32 | |
    | max_length_q, max_length_k | int | |
    | use_cache | False | |

    Rows are never cut. The constructor raises RecipeError for wrong settings. A call raises InputError for rows that
    lack a column or whose lengths disagree, and CookError if torch is not installed.
    """

    attention: Attention = "few-shot"
    """few-shot: an example sees the earlier ones in its sequence, as in the published recipe."""
    layout: Layout | None = None
    """None: padded for few-shot, which every model reads; flat for isolated."""
    pad_id: int = 0
    """The id of padding in input_ids. No token sees it and it has no loss, so any id of the model will do."""
    pad_to_multiple_of: int | None = None
    """Pad the second dimension to a multiple of this. In a flat batch the padding is its own segment."""
    mask_dtype: str = "float32"
    """The torch dtype of a 4D attention_mask: the model's, unless it runs under autocast."""

    def __post_init__(self) -> None:
        wrong = []
        if self.attention not in get_args(Attention):
            wrong.append(f"attention: {self.attention!r} is none of {', '.join(get_args(Attention))}")
        if self.layout is not None and self.layout not in get_args(Layout):
            wrong.append(f"layout: {self.layout!r} is none of {', '.join(get_args(Layout))}")
        for name, least in (("pad_id", 0), ("pad_to_multiple_of", 1)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                wrong.append(f"{name}: {value!r} is not a whole number from {least}")
        if self.mask_dtype not in ("float16", "bfloat16", "float32", "float64"):
            wrong.append(f"mask_dtype: {self.mask_dtype!r} is none of float16, bfloat16, float32, float64")
        if wrong:
            raise RecipeError(*wrong)

    def __call__(self, rows: list[Mapping[str, Any] | Sequence]) -> dict[str, Any]:
        """The batch of these rows."""
        torch = _import_torch()
        checked = [_CheckedRow.from_row(number, row) for number, row in enumerate(rows)]
        if not checked:
            raise InputError("a batch needs at least one row")
        segments = [row.lengths if self.attention == "isolated" else row.lengths.sum(keepdims=True) for row in checked]
        layout = self.layout or ("flat" if self.attention == "isolated" else "padded")
        arrays = self._flat(checked, segments) if layout == "flat" else self._padded(checked, segments)
        batch = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in arrays.items()
        }
        if arrays.get("attention_mask", _NO_MASK).ndim == 4:
            batch["attention_mask"] = batch["attention_mask"].to(getattr(torch, self.mask_dtype))
        return batch

    def _flat(self, rows: list[_CheckedRow], segments: list[Ints]) -> dict[str, Any]:
        lengths = np.concatenate(segments)
        columns = [np.concatenate(column) for column in zip(*((row.ids, row.labels) for row in rows), strict=True)]
        total = int(lengths.sum())
        if padding := self._round_up(total) - total:
            columns = [
                np.append(column, np.full(padding, fill))
                for column, fill in zip(columns, self._padding_values, strict=True)
            ]
            lengths = np.append(lengths, padding)
        ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
        longest = int(lengths.max())
        return {
            "input_ids": columns[0][None],
            "labels": columns[1][None],
            "position_ids": positions(lengths).astype(np.int64)[None],
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends.copy(),
            "max_length_q": longest,
            "max_length_k": longest,
            "use_cache": False,
        }

    def _padded(self, rows: list[_CheckedRow], segments: list[Ints]) -> dict[str, Any]:
        width = self._round_up(max(len(row.ids) for row in rows))
        ids, labels = (np.full((len(rows), width), fill, np.int64) for fill in self._padding_values)
        place, segment_of = np.zeros_like(ids), np.full_like(ids, -1)
        for number, (row, lengths) in enumerate(zip(rows, segments, strict=True)):
            end = len(row.ids)
            ids[number, :end], labels[number, :end] = row.ids, row.labels
            place[number] = positions(np.append(lengths, width - end))
            segment_of[number, :end] = np.repeat(np.arange(len(lengths)), lengths)
        mask: npt.NDArray[Any] = (segment_of >= 0).astype(np.int64)
        if self.attention == "isolated":
            # Padding sees padding: the output of a token that sees nothing would be NaN.
            sees = (segment_of[:, :, None] == segment_of[:, None, :]) & np.tri(width, dtype=np.bool_)
            mask = np.where(sees, np.float32(0), np.float32(-np.inf))[:, None]
        return {"input_ids": ids, "labels": labels, "position_ids": place, "attention_mask": mask}

    @property
    def _padding_values(self) -> tuple[int, int]:
        """The values of padding in input_ids and in labels."""
        return self.pad_id, IGNORE_INDEX

    def _round_up(self, tokens: int) -> int:
        multiple = self.pad_to_multiple_of or 1
        return -(-tokens // multiple) * multiple


_NO_MASK = np.zeros(0)


@dataclasses.dataclass(frozen=True)
class _CheckedRow:
    """A row with as many ids as labels, which is also the sum of its examples' lengths."""

    ids: Ints
    labels: Ints
    lengths: Ints

    @classmethod
    def from_row(cls, number: int, row: Mapping[str, Any] | Sequence) -> _CheckedRow:
        if isinstance(row, Sequence):
            row = row._asdict()
        if missing := [name for name in BATCH_COLUMNS if name not in row]:
            raise InputError(
                f"row {number} of a batch has no {', '.join(missing)}: pass rows as cooked; Hugging Face's Trainer "
                "keeps all columns with remove_unused_columns=False"
            )
        ids, labels, lengths = (np.asarray(row[name]).astype(np.int64) for name in BATCH_COLUMNS)
        if not len(ids) == len(labels) == lengths.sum() or lengths.min(initial=1) < 1:
            raise InputError(
                f"row {number} of a batch has {len(ids)} input_ids and {len(labels)} labels in examples of "
                f"{lengths.tolist()} tokens: these must agree. (TRL's SFTTrainer cuts the first two to its max_length, "
                "1024 by default: pass max_length=None)"
            )
        labels[np.append(0, np.cumsum(lengths)[:-1])] = IGNORE_INDEX
        return cls(ids, labels, lengths)


def _import_torch() -> Any:
    """The module torch. Raises CookError if it is not installed."""
    try:
        return import_module("torch")
    except ImportError as exc:
        raise CookError(f"cook.Collator needs PyTorch, not installed ({exc}): {install_hint('train')}") from exc
