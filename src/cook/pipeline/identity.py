"""The manifest's fields that are known before anything is encoded: all that determines the bytes of a dataset."""

from __future__ import annotations

import functools
import warnings
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from cook.core import cache
from cook.core.errors import CookWarning, InputError
from cook.executors.local import ordered_results
from cook.pack.splits import infer_splits
from cook.pipeline.context import RunContext
from cook.read.source import Shard, Source
from cook.shapes.registry import SHAPES
from cook.store import manifest


class SplitWarning(CookWarning):
    """A requested split has no entry."""


def identity_fields(context: RunContext, name: str, shards: list[Shard]) -> dict[str, Any]:
    """The manifest's fields that are known before encoding: all that determines the bytes. Hashes the shards."""
    tokenizer = context.tokenizer
    shape = SHAPES[context.strategy.shape](context.recipe, tokenizer)
    return {
        "format_version": manifest.FORMAT_VERSION,
        "kind": context.strategy.kind,
        "shape": shape.name,
        "mask_rule": shape.mask_rule,
        "dataset": name,
        "recipe": context.recipe.determining() | _splits_setting(context, name, shards),
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "bos": tokenizer.bos,
            "bos_id": tokenizer.bos_id,
            "eos": tokenizer.eos,
            "eos_id": tokenizer.eos_id,
            "pad_id": tokenizer.pad_id,
            **({} if tokenizer.unk_id is None else {"unk_id": tokenizer.unk_id}),
            "special_ids": [i for _, i in tokenizer.specials],
        },
        "source": context.source.provenance(),
        "inputs": input_rows(shards, context.hasher, context.cache),
        **unread_field(context.source, name),
    }


def unread_field(source: Source, name: str) -> dict[str, list[str]]:
    """The manifest's field `unread`: files among the shards that could be data and were not read. {} without any."""
    found = [each.path for each in source.unread(name)]
    return {"unread": [path.encode(errors="backslashreplace").decode() for path in found]} if found else {}


def warn_of_named_shards(name: str, shards: list[Shard]) -> None:
    """Warn of shards whose names say another split, where all are used for training."""
    names = [shard.name for shard in shards]
    others = [shard for shard, split in zip(names, infer_splits(name, names), strict=True) if split != "train"]
    if others:
        message = f"{name}: a corpus has no splits; these are in it with the rest: {', '.join(others[:5])}"
        warnings.warn(message, SplitWarning, stacklevel=2)


def _splits_setting(context: RunContext, name: str, shards: list[Shard]) -> dict[str, str]:
    """The recipe's `splits`, where shard names say some. Raises InputError where none is left to train on."""
    named = {*infer_splits(name, [shard.name for shard in shards])}
    if not context.strategy.uses_named_splits:
        warn_of_named_shards(name, shards)
    if named == {"train"} or not context.strategy.uses_named_splits:
        return {}
    recipe, advice = context.recipe, "or pass --splits all-train to train on all of them"
    if recipe.splits == "names":
        if "train" not in named:
            raise InputError(
                f"{name}: all of its shards are named for {', '.join(sorted(named))}: rename one, {advice}"
            )
        if "validation" in named and recipe.validation is not None:
            raise InputError(f"{name}: has shards named for validation: leave --validation out, {advice}")
    return {"splits": recipe.splits}


def input_rows(shards: list[Shard], hasher: Executor, known: Path | None = None) -> list[dict[str, Any]]:
    """The manifest's inputs. Shards without a hash, in the cache `known` neither, are hashed by `hasher`."""
    unknown = ((0, shard.path) for shard in shards if not shard.sha256)
    hashed = ordered_results(hasher, functools.partial(cache.cached_sha256, known), unknown)
    return [{"name": shard.name, "bytes": shard.size, "sha256": shard.sha256 or next(hashed)[1]} for shard in shards]
