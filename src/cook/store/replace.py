"""What lies where something of cook's would go: up to date, or to be replaced, or in the way.

Replaced is only what cook wrote as the same kind: a folder whose manifest is sealed, and that holds only files which it
names; a page, by its mark; a file of prompts, by the folder beside it. Nothing is written through a link, nor into a
result, nor over a source.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cook.core.errors import OutputError, OutputExists
from cook.core.files import is_vacant
from cook.store import dataset_card, kinds, manifest
from cook.store.outputs import read_cooked


def refuse_place(to: Path, sources: Iterable[Path] = ()) -> None:
    """Raise OutputExists for a link, for a place in a result, and for one that is a source's, or in it."""
    if to.is_symlink():
        raise OutputExists(f"{to}: is a link, and is not written through; name the place it leads to, or remove it")
    real = to.resolve()
    for above in real.parents:
        if manifest.read_sealed(above) is not None:
            raise OutputExists(f"{to}: lies in {above}, a result that holds nothing else: choose another place")
    for source in sources:
        if real.is_relative_to(source.resolve()):
            raise OutputExists(f"{to}: is what is read, or lies in it ({source}): choose another place")


def check_output_file(to: Path, what: str, sources: Iterable[Path] = ()) -> bool:
    """Whether a file is where one would go. Raises OutputExists for anything else that is there; see `refuse_place`."""
    refuse_place(to, sources)
    if os.path.lexists(to) and not to.is_file():
        raise OutputExists(f"{to}: is there, and is no file; {what} is written to one: name a file")
    return to.exists()


def existing_result(to: Path, head: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The manifest of what is there already, if it is up to date; None where `head`'s may be made.

    Raises OutputExists where there is something else, and `overwrite` does not allow to replace it.
    """
    kind = kinds.kind_of(head)
    refuse_place(to)
    if is_vacant(to):
        return None
    found = manifest.read_sealed(to)
    if found is None:
        raise OutputExists(*_foreign_folder_lines(to, kind.verb))
    existing_kind = _kind_of(found)
    if existing_kind is not kind:
        noun = existing_kind.noun if existing_kind else "another thing"
        raise OutputExists(f"{to}: is {noun}; {kind.verb} into another folder")
    try:
        old = read_cooked(to).manifest
    except OutputError as exc:
        if not overwrite:
            raise OutputExists(*exc.lines, f"{to}: is there, and not whole; pass --overwrite to replace it") from exc
        differing = exc.lines
    else:
        differing = manifest.differences(old, head, kind.identity)
        if not differing:
            return old
    if not overwrite:
        message = "another result is there already; pass --overwrite to replace it, "
        message += f"or {kind.verb} into another folder"
        raise OutputExists(f"{to}: {message}", *(f"  {what}" for what in differing))
    if others := sorted(_foreign_files(to, found)):
        raise OutputExists(f"{to}: holds what cook did not write, and is not replaced: {', '.join(others[:5])}")
    return None


def _kind_of(made: dict[str, Any]) -> kinds.Kind | None:
    """The kind of a sealed manifest of any format version; None where this cook does not know it."""
    if made.get("format_version") == 1 and "kind" not in made:  # a cooked dataset's had none
        return kinds.KINDS[kinds.PACKED if "styles" in made else kinds.DATASET]
    name = made.get("kind")
    return kinds.KINDS.get(name) if isinstance(name, str) else None


def _foreign_folder_lines(to: Path, verb: str) -> list[str]:
    if not os.path.lexists(to / manifest.MANIFEST_NAME):
        if manifest.result_folders(to):
            return [f"{to}: is a folder of several results; {verb} into a new folder, in it or elsewhere"]
        return [f"{to}: is there already, and is not cook's: move it away, or {verb} into another folder"]
    try:
        manifest.read_manifest(to)
        why = ["changed"]
    except OutputError as exc:
        why = exc.lines
    return [
        *why,
        f"{to}: cannot be told to be cook's, and is not replaced: move it away, or {verb} into another folder",
    ]


def _foreign_files(to: Path, made: dict[str, Any]) -> Iterator[str]:
    """What is in a result's folder beside the files that its manifest names, the manifest, and cook's card."""
    rows = made["outputs"] if isinstance(made.get("outputs"), list) else []
    own_files = {row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)}
    own_folders = {str(above) for name in own_files for above in Path(name).parents}
    for path, folders, files in os.walk(to):
        for name in (*folders, *files):
            below = os.path.relpath(os.path.join(path, name), to)
            if below == manifest.MANIFEST_NAME or below in (own_folders if name in folders else own_files):
                continue
            if below != dataset_card.CARD_NAME or not dataset_card.is_own_card(to / dataset_card.CARD_NAME):
                yield below
        folders[:] = [name for name in folders if os.path.relpath(os.path.join(path, name), to) in own_folders]
