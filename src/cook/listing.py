"""What there is: the data sets of the catalog or of a source, and the tokenizers that work offline, as rows."""

from __future__ import annotations

from typing import Any

from cook import catalog, opening
from cook.errors import SourceError


def datasets(source: str | None) -> list[dict[str, Any]]:
    """The catalog's data sets with their licences, or those that a source holds with their size. Raises SourceError."""
    if source is None:
        return [{"name": row.name, "licence": row.licence, "asks": row.duty} for row in catalog.CATALOG]
    opened = opening.open_source(source)
    rows = []
    for name in opened.names():
        try:
            shards, problem = opened.listed(name), ""
        except SourceError as exc:
            shards, problem = [], str(exc)
        size = sum(shard.size for shard in shards)
        rows.append({"name": name, "shards": len(shards), "bytes": size, "problem": problem})
    return rows


def tokenizers() -> list[dict[str, Any]]:
    """The presets."""
    from cook.presets import PRESETS

    return [
        {
            "name": preset.name,
            "also": ", ".join(preset.aliases),
            "models": preset.models,
            "vocabulary": preset.vocab_size,
            "bos": preset.bos,
            "eos": preset.eos,
        }
        for preset in PRESETS.values()
    ]
