"""cook.json: what determined a dataset's bytes, what they are, and a sha256 over all of that.

The manifest is the commit record of an output: it is written last, and a folder without it is not cooked. It holds no
clock, host or path: the same recipe and inputs give the same manifest. Its form is canonical: UTF-8, keys sorted,
indented by two, a newline at the end; `sha256` is over the same form without that field.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cook._version import __version__
from cook.core.catalog import is_safe
from cook.core.errors import OutputError, name_some, shorten
from cook.store.kinds import KINDS

MANIFEST_NAME = "cook.json"
FORMAT_VERSION = 2


def canonical_bytes(fields: Mapping[str, Any]) -> bytes:
    """The one form of a manifest's fields."""
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def seal(fields: Mapping[str, Any]) -> bytes:
    """The manifest's bytes: the fields, and the sha256 over them."""
    return canonical_bytes({**fields, "sha256": digest(fields)})


def digest(fields: Mapping[str, Any]) -> str:
    """The sha256 that seals a manifest, over its other fields."""
    return hashlib.sha256(canonical_bytes(fields)).hexdigest()


def result_folders(folder: Path) -> list[str]:
    """The names of the folders in this one that have a manifest."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))


def read_sealed(folder: Path) -> dict[str, Any] | None:
    """The fields of a manifest that its own sha256 seals, by which cook knows what it made; None where there is none.

    They need not be of this format version, nor of the schema of their kind.
    """
    try:
        data = (folder / MANIFEST_NAME).read_bytes() if (folder / MANIFEST_NAME).is_file() else b""
        fields = orjson.loads(data)
        fields.pop("sha256")
        return fields if seal(fields) == data else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a result's folder, without its sha256. Raises OutputError.

    Checked: format version, sha256, kind, the fields of that kind, and that no file lies outside of the folder.
    """
    path = folder / MANIFEST_NAME
    data = _read_bytes(folder)
    try:
        manifest = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise OutputError(f"{path}: is damaged: not JSON: {exc}") from exc
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format_version"), int):
        raise OutputError(f"{path}: is not a manifest of cook")
    if manifest["format_version"] != FORMAT_VERSION:
        version, older = manifest["format_version"], manifest["format_version"] < FORMAT_VERSION
        raise OutputError(
            f"{path}: is of format version {version}, and this cook reads {FORMAT_VERSION}: "
            + ("make it again, with --overwrite or into another folder" if older else "read it with a newer cook")
        )
    manifest.pop("sha256", None)
    try:
        sealed = seal(manifest)
    except TypeError as exc:  # nested too deep for orjson to write, so cook did not write it
        raise OutputError(f"{path}: is damaged: {exc}") from exc
    if sealed != data:
        raise OutputError(f"{path}: is damaged: its sha256 does not match, or its JSON is not in cook's form")
    _check_fields(path, manifest)
    return manifest


def _read_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST_NAME
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is not a file")
        return path.read_bytes()
    except FileNotFoundError as exc:
        if held := result_folders(folder):
            named = ", ".join(str(folder / name) for name in held)
            raise OutputError(f"{folder}: is a folder of several results; name one of them: {named}") from exc
        raise OutputError(f"{folder}: not a cook output: it has no {MANIFEST_NAME}") from exc
    except OSError as exc:
        raise OutputError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _check_fields(path: Path, manifest: dict[str, Any]) -> None:
    name = manifest.get("kind")
    if not isinstance(name, str):
        raise OutputError(f"{path}: is not a manifest of cook: wrong or missing: kind")
    if (kind := KINDS.get(name)) is None:
        raise OutputError(f"{path}: is of kind {name[:200]!r}, which this cook does not know")
    if wrong := schema_errors(manifest, kind.schema):
        raise OutputError(f"{path}: is not a manifest of cook: wrong or missing: {', '.join(wrong[:5])}")
    for output in manifest["outputs"]:
        if not all(map(is_safe, output["name"].split("/") if kind.has_subfolders else [output["name"]])):
            raise OutputError(f"{path}: names a file outside of its folder: {output['name'][:200]!r}")


def schema_errors(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """The fields of a part of a manifest that are not as a schema says."""
    return list(_schema_errors("", value, schema))


def _schema_errors(where: str, value: Any, schema: Any) -> Iterator[str]:
    """The fields of a JSON value that are not as a schema says."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            yield where
            return
        for key, kind in schema.items():
            yield from _schema_errors(f"{where}.{key}".lstrip("."), value.get(key), kind)
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield where
            return
        for row in value:
            yield from _schema_errors(where, row, schema[0])
    elif schema == dict[str, int]:
        if not isinstance(value, dict) or not all(type(count) is int for count in value.values()):
            yield where
    elif type(value) is not schema:
        yield where


def differences(old: Mapping[str, Any], new: Mapping[str, Any], fields: Iterable[str]) -> list[str]:
    """What differs between two manifests in the fields that determine bytes, one line each."""
    found: list[str] = []
    for key in fields:
        _differences(key, old.get(key), new.get(key), found)
    return found


def _differences(where: str, old: Any, new: Any, found: list[str]) -> None:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            _differences(f"{where}.{key}", old.get(key), new.get(key), found)
    elif where in ("inputs", "sources") and isinstance(old, list) and isinstance(new, list):
        by_name = [{row["name"]: row for row in rows} for rows in (old, new)]
        names = sorted(by_name[0].keys() | by_name[1].keys())
        changed = [name for name in names if by_name[0].get(name) != by_name[1].get(name)]
        found.append(f"{where}: {name_some(changed)}")
    else:
        found.append(f"{where}: it has {_shorten(old)}, this run {_shorten(new)}")


def _shorten(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return shorten(text, 77)


@functools.cache
def versions() -> dict[str, Any]:
    """The manifest's field of what the bytes may depend on beside the recipe and the inputs."""
    import zstandard

    own = {"cook": __version__, "numpy": np.__version__, "zstandard": zstandard.__version__}
    return {"versions": own | {"pyarrow": _installed_version("pyarrow")}}


def _installed_version(package: str) -> str:
    """A package's version without an import of it (pyarrow's takes 30 ms), or of what reads metadata (50 ms)."""
    spec = importlib.util.find_spec(package)
    metadata_folders = Path(spec.origin).parents[1].glob(f"{package}-*.dist-info") if spec and spec.origin else ()
    if len(found := list(metadata_folders)) == 1:
        return found[0].name.removeprefix(f"{package}-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version(package)
