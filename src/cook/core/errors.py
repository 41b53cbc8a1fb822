"""Every error that cook raises on purpose, and the exit code that each gives the command.

    CookError                1   base of all
    ├── RecipeError          2   a setting is wrong: a flag, a key of the YAML file, a dataset's name
    ├── SourceError          1   datasets or shards cannot be found or read
    ├── TokenizerError       1   a tokenizer cannot be had, or has no such token
    ├── OutputError          1   the output cannot be written or read
    │   └── OutputExists     5   another result is there already
    ├── ClusterError         1   a cluster cannot be reached, does not fit, or was lost
    ├── InputError           3   the data is rejected
    │   ├── BadLines         3   lines that are not entries, each with file:line: field
    │   └── TooLong          3   examples longer than a sequence, beyond what the recipe allows
    └── SeveralFailed        highest of the datasets that failed, each of which stands in it

    (no error)               4   verify or diff found a difference; a damaged manifest is one too

Errors of other libraries are turned into one of these where they are called, `from` the original.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cook.core.escapes import escape_controls

if TYPE_CHECKING:
    from cook.core.results import Summary

EXIT_DIFFERENCES = 4  # what the command returns where verify or diff found something

MIN_ALIKE = 3  # lines of a shard from which one message says what all of them have
MAX_REPR_CHARS = 500  # characters of a wrong value that a message shows
MAX_PROBLEMS = 20  # problems that an error names; the rest are counted


class CookError(Exception):
    """Base of every error that cook raises on purpose. `exit_code` is what the command returns for it.

    Each argument is a line of the message. A line break in one is of a name or of another's words: it is escaped, with
    all that could steer a terminal, where the message is asked for.
    """

    exit_code = 1

    @property
    def lines(self) -> list[str]:
        """The lines of its message, as they are printed."""
        return [escape_controls(str(line)) for line in self.args]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker to whoever waits for it, whatever its constructor takes."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CookError], args: tuple[Any, ...], state: dict[str, Any]) -> CookError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class CookWarning(UserWarning):
    """Base of every warning that cook gives on purpose; it is one line, escaped as an error's."""

    def __str__(self) -> str:
        return escape_controls(super().__str__())


class RecipeError(CookError):
    """One or more settings are wrong; the message lists all of them."""

    exit_code = 2


class SourceError(CookError):
    """A source, a dataset in it, or a shard cannot be found or read."""


class TokenizerError(CookError):
    """A tokenizer cannot be had, cannot encode, or lacks a token that the recipe needs."""


class ClusterError(CookError):
    """The cluster cannot be reached, its workers do not fit, or it was lost."""


class OutputError(CookError):
    """The output folder cannot be written, or what lies in it cannot be read back."""


class OutputExists(OutputError):
    """A result of another recipe or of other inputs lies where this one would go."""

    exit_code = 5


def write_error(path: str | os.PathLike[str], exc: OSError, size_hint: int = 0) -> OutputError:
    """The OutputError for a path that cannot be written.

    Where room is short, with about how many bytes it `size_hint`.
    """
    reason = os.strerror(exc.errno) if exc.errno else str(exc)  # pyarrow puts words of its own around the system's
    no_room = exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = f"; it takes about {size_hint:,} bytes there" if no_room and size_hint else ""
    return OutputError(f"{os.fspath(path)}: cannot be written: {reason}{hint}")


def from_os_error(exc: CookError | OSError) -> CookError:
    """An error of the system's as one of cook's, with its path; cook's own as it is."""
    if isinstance(exc, CookError):
        return exc
    place = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, str | bytes) else ""
    return CookError(f"{place}{exc.strerror or exc}")


def refuse_empty(**paths: Any) -> None:
    """Raise RecipeError for a path that is "", as of a shell's variable that is not set: it would mean this folder."""
    for name, given in paths.items():
        if "" in (given if isinstance(given, (list, tuple)) else [given]):
            raise RecipeError(f"{name}: the path is empty; name a file or a folder")


class InputError(CookError):
    """The data is rejected; nothing was written."""

    exit_code = 3


class Problem(NamedTuple):
    """What is wrong with one line of a shard."""

    shard: str  # path of the shard as found
    line: int  # 1-based
    field: str  # "QA_list[2].A", or "" for the line as a whole
    what: str

    def __str__(self) -> str:
        field = f" {self.field}:" if self.field else ""
        return f"{self.shard}:{self.line}:{field} {self.what}"


UNREAD_SHARD_NOTE = "(the shard after this one was not read)"
SKIP_HINT = "(to leave such lines out and record them, add: --on-error skip)"
FIELDS_HINT = (
    "(to name the keys of your lines, add for example: --fields context=passage,pairs=qas,question=q,answer=a)"
)
ALL_LINES_HINT = '(is it the right file? An entry is {"context": "…", "QA_list": [{"Q": "…", "A": "…"}]})'
MULTILINE_JSON = "begins JSON that goes over several lines"
ARRAY_PROBLEMS = (MULTILINE_JSON, "must be an object, not a list")
COMPRESSED = "is compressed, and its name does not say so: end it in .gz or .zst"
UTF_16 = "is UTF-16, and must be UTF-8: `iconv -f UTF-16 -t UTF-8 FILE > FILE.jsonl` makes it so"
UTF_32 = UTF_16.replace("UTF-16", "UTF-32")
PACKED_OTHERWISE = "is compressed in a way that is not read: use gzip or zstd"
ARCHIVE = "is an archive: unpack it"
TABLE = "is a table: write its rows as JSON lines"
POINTER = "stands for a file that is elsewhere: fetch it (git lfs pull, git annex get)"
PAGE = "is a page or a document, not JSON lines: was it fetched whole, from the right address?"
WHOLE_FILES = (
    COMPRESSED,
    UTF_16,
    UTF_32,
    PACKED_OTHERWISE,
    ARCHIVE,
    TABLE,
    POINTER,
    PAGE,
)  # what is wrong with all of a file
JSON_LINES_HINT = "(each line of a .jsonl file is a JSON object; `jq -c '.[]' FILE` writes a JSON array so)"


class BadLines(InputError):
    """Lines that are not entries. `problems` are the first of them; `count` is how many there are in their shard.

    `unread` shards after it were not looked at. `skippable` lines are those that `on_error` can leave out. `total`:
    the lines of the shard if every one of them is bad, else 0; then the message says once what all of them have.
    """

    def __init__(
        self, problems: Sequence[Problem], count: int, unread: int = 0, skippable: bool = False, total: int = 0
    ) -> None:
        self.problems, self.count = list(problems), count
        alike = _shared_problems(self.problems) if total >= MIN_ALIKE else []
        unlisted = 0 if alike else count - len(self.problems)
        fields = {f"{each.field}: " if each.field else "": each for each in alike}
        lines = [f"{each.shard}: all {total:,} lines: {field}{each.what}" for field, each in fields.items()]
        lines = lines or [str(problem) for problem in self.problems]
        if unlisted:
            lines.append(f"… and {unlisted:,} more")
        if unread:
            lines.append(f"(the {unread} shards after this one were not read)" if unread > 1 else UNREAD_SHARD_NOTE)
        first = self.problems[0]
        if first.what in ARRAY_PROBLEMS:
            lines.append(JSON_LINES_HINT)
        elif alike:
            lines.append(FIELDS_HINT if any(each.what.startswith("is missing") for each in alike) else ALL_LINES_HINT)
        elif skippable and first.what not in WHOLE_FILES:
            lines.append(SKIP_HINT)
        super().__init__(*lines)


def _shared_problems(problems: Sequence[Problem]) -> list[Problem]:
    """The problems of the first line, if all lines have the same; lists of pairs may differ in length."""
    by_line: dict[int, dict[tuple[str, str], Problem]] = {}
    for problem in problems:
        field = re.sub(r"\[\d+\]", "[…]", problem.field)
        by_line.setdefault(problem.line, {})[field, problem.what] = problem._replace(field=field)
    first, *others = by_line.values()
    if len(others) > 1:
        others.pop()  # it may be cut short
    return [*first.values()] if others and all(other.keys() == first.keys() for other in others) else []


class TooLong(InputError):
    """Examples longer than a sequence, beyond what `overlong` and `max_dropped` allow."""


class SeveralFailed(CookError):
    """More than one dataset failed. `failures` maps names to their errors, `summary` holds the ones that are done."""

    def __init__(self, failures: Mapping[str, CookError], summary: Summary) -> None:
        self.failures, self.summary = dict(failures), summary
        self.exit_code = max(error.exit_code for error in failures.values())
        lines = ((f"{name}:", line) for name, error in failures.items() for line in error.lines)
        super().__init__(
            *(line if line.startswith(escape_controls(name)) else f"{name} {line}" for name, line in lines)
        )


NO_FILE = "is a pipe or a device, not a file"


def is_no_file(path: str | Path) -> bool:
    """Whether what is there is neither a file nor a folder: a pipe, which waits for ever, or a device without end."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def read_error(path: str | Path, exc: OSError) -> SourceError:
    """The SourceError for a shard that cannot be opened, read or (pyarrow raises OSError there too) decompressed."""
    why = str(exc.strerror or exc)
    if why.endswith(("incorrect header check", "Unknown frame descriptor")):  # of zlib, and of zstd
        why += ": it is not compressed as its name says"
    return SourceError(f"{path}: cannot be read: {why}")


def install_hint(extra: str) -> str:
    """The command that installs an extra: the package is in no index, so it is of a checkout."""
    return f"in cook's checkout: pip install -e '.[{extra}]'"


def short_repr(value: Any) -> str:
    """A value for a message: in short, however long or deep it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes; nesting
        return f"a {'number' if isinstance(value, int) else type(value).__name__} too long to show"
    return shorten(text, MAX_REPR_CHARS)


def shorten(text: str, max_chars: int) -> str:
    """A text of at most `max_chars` characters, or its first ones and "…"."""
    return text if len(text) <= max_chars else text[:max_chars] + "…"


def name_some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are.

    >>> name_some(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def first_lines(lines: Sequence[str], most: int = MAX_PROBLEMS) -> list[str]:
    """The first lines of a message, and one that says how many more there are."""
    return [*lines[:most], *([f"… and {len(lines) - most:,} more"] if len(lines) > most else [])]


def suggestion(name: str, known: Iterable[str], count: int = 1) -> str:
    """A question that names the nearest of the known names, whatever their case; "" where none is near.

    >>> suggestion("Squod", ["squad", "race"])
    'did you mean squad?'
    """
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), by_lower, n=count)
    return f"did you mean {' or '.join(by_lower[each] for each in near)}?" if near else ""
