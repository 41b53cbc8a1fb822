"""What lies where a mix or an export would go: up to date, or to be replaced, or in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cook.errors import OutputError, OutputExists
from cook.store import card, manifest, publish
from cook.store.reader import read_cooked

KINDS = {
    None: "a cooked data set",
    manifest.MIX: "a mix",
    manifest.EXPORT: "an export",
    manifest.CORPUS: "a corpus",
    manifest.PROMPTS: "of prompts",
    manifest.PARSE: "a data set that was parsed",
}
NOUNS = {manifest.PROMPTS: "file of prompts", manifest.PARSE: "data set"}  # else the kind itself
VERBS = {manifest.PROMPTS: "write", manifest.CORPUS: "write"}


def older(
    to: Path, head: dict[str, Any], determining: tuple[str, ...], ours: tuple[str, ...], overwrite: bool
) -> dict[str, Any] | None:
    """The manifest of what is there already, if it is up to date; None where `head`'s may be made.

    `ours` are names of files, and endings with their dot, that such a folder holds beside its manifest and card; "/"
    among them says that they may lie in folders of it.
    Raises OutputExists where there is something else, and `overwrite` does not allow to replace it.
    """
    kind = head["kind"]
    noun, verb = NOUNS.get(kind, kind), VERBS.get(kind, kind)
    if publish.is_vacant(to):
        return None
    if not (to / manifest.NAME).exists() and manifest.holds(to):
        raise OutputExists(f"{to}: is a folder of several results; {verb} into a new folder, in it or elsewhere")
    if not (to / manifest.NAME).exists():
        raise OutputExists(f"{to}: is there already, and is not cook's: move it away, or {verb} into another folder")
    try:
        old = read_cooked(to).manifest
    except OutputError as exc:
        if not overwrite:
            raise OutputExists(*exc.lines, f"{to}: is there, and not whole; pass --overwrite to replace it") from exc
        old, differing = {}, exc.lines
    else:
        if old.get("kind") != kind:
            raise OutputExists(f"{to}: is {KINDS[old.get('kind')]}; {verb} into another folder")
        differing = manifest.differences(old, head, determining)
    if not differing:
        return old
    if not overwrite:
        told = f"another {noun} is there already; pass --overwrite to replace it, or {verb} into another folder"
        raise OutputExists(f"{to}: {told}", *(f"  {what}" for what in differing))
    others = sorted(str(path.relative_to(to)) for path in _entries(to, "/" in ours) if not _ours(path, ours))
    if others:
        raise OutputExists(f"{to}: holds what cook did not write, and is not replaced: {', '.join(others[:5])}")
    return None


def _entries(folder: Path, deep: bool) -> Iterator[Path]:
    for path in folder.iterdir():
        if deep and path.is_dir() and not path.is_symlink():
            yield from _entries(path, deep=False)
        else:
            yield path


def _ours(path: Path, ours: tuple[str, ...]) -> bool:
    if path.name == card.NAME:
        return card.MARK in path.read_text(encoding="utf-8", errors="replace")
    return path.is_file() and (path.name == manifest.NAME or path.name in ours or path.suffix in ours)
