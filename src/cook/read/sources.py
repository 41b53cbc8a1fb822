"""A source by its address: a folder, the bundled sample, the Hub, ModelScope."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cook.core.errors import SourceError, refuse_empty, suggestion
from cook.core.recipe import HUB, hub_address
from cook.read.lines import is_shard_name
from cook.read.source import LAYOUT_HINT, MAX_NAMED, SAMPLE, Folder, Source, unread_reason

MODELSCOPE = "modelscope"


def open_source(
    name: str,
    follow_links: bool = False,
    revision: str | None = None,
    cache: str | None = None,
    skip: bool = False,
) -> Source:
    """The source that a recipe names; on the Hub, at the commit that its revision names now. Raises SourceError.

    `follow_links`: allow links that lead out of a folder; a downloaded collection could link to any file.
    `skip`: continue without the files that `Source.unread` lists.
    """
    refuse_empty(source=name)
    if name == SAMPLE:
        return Folder(SAMPLE, Path(__file__).parents[1] / SAMPLE)
    if (address := hub_address(name, revision)) is not None:
        from cook.core import cache as cook_cache
        from cook.read.hub.source import open_hub

        return open_hub(*address, cook_cache.prepare_cache(cache), skip)
    if name == MODELSCOPE or name.startswith(f"{MODELSCOPE}://"):
        from cook.read.modelscope import open_modelscope

        return open_modelscope(name, skip)
    return _open_folder(name, follow_links, skip)


def _open_folder(name: str, follow_links: bool, skip: bool) -> Folder:
    """A local folder as a source. Raises SourceError for anything else, with what may be meant."""
    root = Path(os.path.expanduser(name))
    real = root.resolve()
    if root.is_file():
        if not is_shard_name(real.name) and (why := unread_reason(real.name)):
            raise SourceError(f"{name}: {why}; a source is the folder that holds its dataset")
        dataset_root = real.parents[2 if real.parent.name == "shard" else 0]
        raise SourceError(f"{name}: is a file; a source is the folder that holds its dataset: {dataset_root}")
    if not root.is_dir():
        raise SourceError(f"{name}: no such folder; {_source_hint(name)}")
    source = Folder("local", root, follow_links, skip)
    if not source.names():
        below = next(real.glob("*/*/shard"), None)
        hint = f"; is {below.parents[1]} meant?" if below else ""
        others = sorted(each.relative_to(real) for glob in ("*", "*/*") for each in real.glob(glob))
        unread = [f"{root / each}: {why}" for each in others if (why := unread_reason(each.name))]
        raise SourceError(f"{name}: holds no dataset; {LAYOUT_HINT}{hint}", *unread[:MAX_NAMED])
    return source


def _source_hint(name: str) -> str:
    """What to pass as a source instead."""
    known = (SAMPLE, HUB, MODELSCOPE)
    if hint := suggestion(name, known):
        return hint
    if address := re.fullmatch(r"(?:https?://huggingface\.co/datasets/)?([\w.-]+/[\w.-]+)/?", name):
        return f"one on the Hub is hf://datasets/{address[1]}"
    return f"a source is a folder laid out DATASET/shard/*.jsonl, {', '.join(known)}, or hf://datasets/OWNER/NAME"
