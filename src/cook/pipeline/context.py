"""What the datasets of one run share, and how a kind of result is encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from cook.core.progress import Progress
from cook.core.recipe import Recipe
from cook.encode import parts as part_encoding
from cook.read.source import Source
from cook.store import kinds
from cook.tokenizer.loading import Tokenizer


def keep_examples(recipe: Recipe, folder: Path) -> None:
    """Keep the examples as they are."""


def no_extra_counts(parts: list[part_encoding.EncodedPart]) -> dict[str, Any]:  # noqa: ARG001 - a strategy's signature
    """No counts of its own."""
    return {}


class EncodingStrategy(NamedTuple):
    """How entries become examples. `run` uses the default, one example an entry; `make_corpus` passes its own."""

    kind: str = kinds.DATASET
    """Of the result; see `store.kinds`."""
    shape: str = "context-qa"
    """The input shape, by its name in `shapes.registry`."""
    read: part_encoding.RecordReader = part_encoding.read_records
    split_examples: Callable[[Recipe, Path], None] = keep_examples
    """Called on the folder of the table `placed`: may replace its examples by parts of them; see `encode.table`."""
    extra_counts: Callable[[list[part_encoding.EncodedPart]], dict[str, Any]] = no_extra_counts
    """Counts of its own, for the manifest."""
    extra_manifest: Mapping[str, Any] = MappingProxyType({})
    """Fields of its own, for the manifest."""
    uses_named_splits: bool = True
    """Whether a shard's name decides its split; else all are for training."""
    uses_cache: bool = True
    """Whether tokens are kept between runs."""
    decodes: bool = False
    """Whether what was encoded must decode to its text; see `readback`."""


class RunContext(NamedTuple):
    """What the datasets of one run share."""

    recipe: Recipe
    tokenizer: Tokenizer
    source: Source
    root: Path
    cache: Path | None
    pool: Executor
    hasher: Executor
    """Hashes the shards."""
    progress: Progress
    strategy: EncodingStrategy = EncodingStrategy()
