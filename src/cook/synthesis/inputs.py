"""The input files of a step: their state and manifest rows, and the JSON objects on their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson

from cook.core.errors import MAX_PROBLEMS, BadLines, Problem, read_error
from cook.core.files import sha256_of
from cook.read.lines import JSON_TYPE_NAMES, ByteRange, Line, LineReader
from cook.read.source import shard_at

T = TypeVar("T")
MAX_KEYS = 6  # keys of a line that a problem lists


class InputFiles:
    """Files with their names in the manifest, as they were when the step began. Raises SourceError."""

    def __init__(self, files: Iterable[tuple[Path, str]]) -> None:
        try:
            self.shards = [shard_at(path, name) for path, name in files]
        except OSError as exc:
            raise read_error(exc.filename, exc) from exc

    def rows(self) -> list[dict[str, Any]]:
        """The manifest's row of each file. Raises SourceError."""
        return [{"name": shard.name, "bytes": shard.size, "sha256": sha256_of(shard.path)} for shard in self.shards]

    def require_unchanged(self) -> None:
        """Raise SourceError if a file changed since the step began."""
        for shard in self.shards:
            shard.require_unchanged()


def parse_lines(file: Path, name: str, parse: Callable[[Line], T | Problem]) -> Iterator[tuple[Line, T]]:
    """The lines of a file that are not blank, each with its parsed value.

    Problems name the file as `name`. After the first problem nothing more is yielded; the rest of the file is only
    checked, and BadLines is raised at its end. Raises SourceError.
    """
    problems: list[Problem] = []
    count = 0
    for line in LineReader(ByteRange(str(file), 0, None)):
        parsed = line if isinstance(line, Problem) else parse(line)
        if isinstance(parsed, Problem):
            count += 1
            problems += [parsed._replace(shard=name)][: MAX_PROBLEMS - len(problems)]
        elif not count:
            assert isinstance(line, Line)
            yield line, parsed
    if count:
        raise BadLines(problems, count)


def parse_object(line: Line) -> dict[str, Any] | Problem:
    """The JSON object on a line."""
    try:
        row = orjson.loads(line.text)
    except orjson.JSONDecodeError as exc:
        return Problem("", line.number, "", f"is not JSON: {exc.msg} at column {exc.colno}")
    return row if isinstance(row, dict) else Problem("", line.number, "", f"must be an object, not {_type_name(row)}")


def text_field(line: Line, row: dict[str, Any], field: str, hint: str) -> str | Problem:
    """The text under a key. `hint` tells the user what to do where the key is missing."""
    if field not in row:
        keys = f" (there is {', '.join(map(str, list(row)[:MAX_KEYS]))})" if row else ""
        return Problem("", line.number, field, f"is missing{keys}; {hint}")
    text = row[field]
    return text if type(text) is str else Problem("", line.number, field, f"must be text, not {_type_name(text)}")


def _type_name(value: Any) -> str:
    return JSON_TYPE_NAMES.get(type(value), "null")
