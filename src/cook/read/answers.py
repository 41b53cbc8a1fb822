"""What a server says, checked for its form before it becomes a path, a number, a wait or a text.

No server is believed: not the Hub, not ModelScope, not what answers in their place. `HEADER_FORMS` and the limits below
are all that cook takes from one; `transport` holds every request and answer of the clients against them, before the
client reads the answer, and `waiting` ends what takes too long.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

from cook.core.errors import shorten

STALL_TIMEOUT_S = 45.0  # seconds that cook waits for a server without progress, whatever it asks; all tries together
PROGRESS_BYTES = 1 << 16  # of a file's content: so many are progress, and so is a file that is there
CONNECT_TIMEOUT_S = (
    10.0  # seconds after which a Hub that cannot be reached is not called again: the client itself has tried
)
WARN_AFTER_S = 10.0  # seconds after which the user is told what is waited for
MAX_REQUESTS = 2_000  # for one question: pages of a list, redirects and tries
MAX_ERROR_BYTES = 1 << 20  # of an answer that is an error or leads elsewhere
MAX_LIST_BYTES = 64 << 20  # of all pages of a list together
MIN_BODY_LIMIT = 1 << 16  # of any answer: what a small file is asked with may be larger than it
MAX_TOKENIZER_BYTES = 512 << 20  # of a tokenizer's file, whose size no list states
MAX_FILE_BYTES = 1 << 40  # of one file, as it is listed
MAX_TOTAL_BYTES = 1 << 50  # of all files of a list
MAX_PATH_BYTES = 1_024  # of a file's path
MAX_NAME_BYTES = 255  # of each part of it: what file systems take
MAX_TEXT_CHARS = 300  # of a server's words in a message

COMMIT_PATTERN = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
HEADER_FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "etag": (re.compile(r'(?:W/)?("?)([0-9a-f]{40}|[0-9a-f]{64})\1'), "40 or 64 hexadecimal digits"),
    "x-linked-etag": (re.compile(r'(?:W/)?("?)([0-9a-f]{40}|[0-9a-f]{64})\1'), "40 or 64 hexadecimal digits"),
    "x-repo-commit": (COMMIT_PATTERN, "40 or 64 hexadecimal digits"),
    "x-xet-hash": (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    "x-linked-size": (re.compile(r"\d{1,15}"), "a number of bytes"),
    "content-length": (re.compile(r"\d{1,15}"), "a number of bytes"),
    "retry-after": (re.compile(r"\s*\d{1,12}\s*|[\w,: +-]{20,40}"), "a number of seconds or a date"),
    "content-encoding": (re.compile(r"identity|"), "none, as none was asked for"),
}
"""The form that each header must have, with its words; a header that is not there passes."""
T = TypeVar("T")
_HEAD_ONLY_HEADERS = ("etag", "x-linked-etag")  # what the Hub's client reads of the answers to HEAD alone
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_CONTROL_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")


class ResponseRejected(Exception):
    """An answer that is not taken. `temporary`: whether what is cached may stand in; it is never asked for again."""

    def __init__(self, message: str, temporary: bool = False, answer: ErrorResponse | None = None) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.answer = answer
        """What was answered, where it is an error that asks for a longer wait than cook has."""


class ErrorResponse(NamedTuple):
    """What an error of a server is told by."""

    status_code: int
    headers: Mapping[str, str]
    url: str


class ResponseWaiter(Protocol):
    """Who waits for answers: `waiting.StallWatch`."""

    stopped: bool

    def expect_response(self, asked: ServerQuery) -> None:
        """An answer is due."""
        ...

    def response_done(self, asked: ServerQuery) -> None:
        """No answer is due."""
        ...

    def note_status(self, status: int, wait: float) -> None:
        """An answer's status, and the seconds that it asks to wait."""
        ...

    def note_bytes(self, count: int) -> None:
        """Bytes of a file have come."""
        ...

    def seconds_left(self) -> float:
        """Seconds until nobody waits any more."""
        ...


@dataclasses.dataclass
class ServerQuery:
    """A question to a server: what its answers have to agree with, and how much they may be."""

    watch: ResponseWaiter
    endpoint: str
    limit: int = MAX_LIST_BYTES  # bytes of all answers together; of a file, of each
    is_file: bool = False
    commit: str | None = None
    etag: str | None = None
    etags: bool = True  # whether the client makes a path of them
    refusal: ResponseRejected | None = None
    stopped: bool = False
    requests: int = 0
    bytes_received: int = 0

    def reject(self, message: str, temporary: bool = False) -> ResponseRejected:
        """The error of an answer, which the client could hide; so it is kept here as well."""
        self.refusal = ResponseRejected(message, temporary)
        return self.refusal

    def stop(self) -> None:
        """Nobody waits for the answer any more."""
        self.stopped = True

    def on_request(self, url: str, headers: MutableMapping[str, str]) -> None:
        """Hold a request against the limits; a token goes to no other place than the endpoint. Raises Refused."""
        self._raise_if_stopped()
        self.requests += 1
        if self.requests > MAX_REQUESTS:
            raise self.reject(f"{host(self.endpoint)} has not answered the question after {MAX_REQUESTS:,} requests")
        if origin(url) != origin(self.endpoint):
            for name in ("authorization", "cookie"):
                if name in headers:
                    del headers[name]
        headers["accept-encoding"] = "identity"  # what is packed could unpack to any size
        self.watch.expect_response(self)

    def on_response(self, method: str, url: str, status: int, headers: Mapping[str, str]) -> int:
        """Hold an answer's headers against their forms; the most bytes that its body may have. Raises Refused."""
        found = {name.lower(): value for name, value in headers.items()}
        self._check_forms(method, url, found)
        self._check_addresses(url, found)
        if self.commit and (commit := found.get("x-repo-commit")) and commit != self.commit:
            raise self.reject(f"{host(url)} answers of commit {commit}, where {self.commit} was asked for")
        wait = retry_after_seconds(found)
        self.watch.note_status(status, wait)
        if status >= 400 and wait > self.watch.seconds_left():
            message = f"{host(url)} answers {status} and asks to wait {wait:.0f} s, longer than cook does"
            self.refusal = ResponseRejected(message, True, ErrorResponse(status, found, url))
            raise self.refusal
        if status < 300 and "html" in found.get("content-type", "").lower():
            raise self.reject(f"{host(url)} {WEB_PAGE_MESSAGE}", temporary=True)
        if status < 400 and method == "HEAD":
            self.watch.response_done(self)
        return MAX_ERROR_BYTES if status >= 300 else self.limit if self.is_file else self.limit - self.bytes_received

    def on_bytes(self, url: str, got: int, limit: int) -> None:
        """Hold what has come of a body against its limit. Raises Refused."""
        self._raise_if_stopped()
        if got > limit:
            raise self.reject(f"{host(url)} sends more than {limit:,} bytes, the most that cook takes of this answer")

    def _raise_if_stopped(self) -> None:
        if self.refusal or self.stopped or self.watch.stopped:
            raise self.refusal or ResponseRejected("is asked no more")

    def _check_forms(self, method: str, url: str, found: Mapping[str, str]) -> None:
        for name, (form, words) in HEADER_FORMS.items():
            value = found.get(name)
            if value is None or (name in _HEAD_ONLY_HEADERS and (method != "HEAD" or not self.etags)):
                continue
            if not form.fullmatch(value):
                raise self.reject(
                    f"{host(url)} sends {_HEADER_TITLES[name]} {escape_and_shorten(repr(value), 80)}, "
                    f"which is not {words}"
                )
        etag = found.get("x-linked-etag") or found.get("etag")
        if self.etag and etag and method == "HEAD" and etag.removeprefix("W/").strip('"') != self.etag:
            raise self.reject(f"{host(url)} offers another file than the one that it lists")

    def _check_addresses(self, url: str, found: Mapping[str, str]) -> None:
        """Hold the addresses in an answer: a next page is the endpoint's; a redirect is no step back to http."""
        location = found.get("location")
        if location is not None and not _is_address(location, url):
            raise self.reject(
                f"{host(url)} leads to {escape_and_shorten(repr(location), 80)}, which is no address to follow"
            )
        for place, more in _LINK.findall(found.get("link", "")):
            rel = re.search(r'rel\s*=\s*"?([\w-]+)', more)
            if rel and rel[1] in ("next", "xet-auth") and not self._is_allowed_address(place, rel[1]):
                raise self.reject(
                    f"{host(url)} says that its next page is at {escape_and_shorten(place, 80)}, "
                    "another server; it is not asked"
                )
        if (route := found.get("x-xet-refresh-route")) and not self._is_allowed_address(route, "xet-auth"):
            raise self.reject(
                f"{host(url)} names another server for a token, {escape_and_shorten(route, 80)}; it is not asked"
            )

    def _is_allowed_address(self, place: str, rel: str) -> bool:
        home = "https://huggingface.co"  # which the client replaces by its endpoint
        return _is_printable_url(place) and origin(place) in (origin(self.endpoint), rel == "xet-auth" and origin(home))


WEB_PAGE_MESSAGE = (
    "answers with a web page, not with data; is a login page of this network in the way, or HF_ENDPOINT wrong?"
)
_HEADER_TITLES = {name: name.title().replace("Etag", "ETag") for name in HEADER_FORMS}


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """The seconds that a server asks to wait: of Retry-After, or until the window of its limit ends; 0 if it does not.

    >>> headers = {"retry-after": "12"}, {"ratelimit": '"api";r=0;t=55'}, {"retry-after": "x"}
    >>> tuple(map(retry_after_seconds, headers))
    (12.0, 55.0, 0.0)
    """
    limited = re.search(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    after = re.fullmatch(r"\s*(\d+)\s*", headers.get("retry-after", ""))
    return max((float(found[1][:12]) for found in (limited, after) if found), default=0.0)


def is_commit(text: object) -> bool:
    """Whether that is the name of a commit."""
    return isinstance(text, str) and COMMIT_PATTERN.fullmatch(text) is not None


def is_path(text: object) -> bool:
    r"""Whether that is a file's path within a repository: no other place, nothing invisible or obeyed.

    >>> [is_path(p) for p in ("d/shard/0.jsonl", "../x", "/etc/x", "a//b", "a\\b", "a\nb", "\u202ea", None, "a" * 300)]
    [True, False, False, False, False, False, False, False, False]
    """
    if (
        not isinstance(text, str)
        or "\\" in text
        or any(unicodedata.category(sign) in _CONTROL_CATEGORIES for sign in text)
    ):
        return False
    parts = text.split("/")
    sizes = [len(part.encode()) for part in parts]
    return not {"", ".", ".."} & {*parts} and max(sizes) <= MAX_NAME_BYTES and sum(sizes) + len(parts) <= MAX_PATH_BYTES


def is_size(number: object) -> bool:
    """Whether that is a size of a file."""
    return type(number) is int and 0 <= number <= MAX_FILE_BYTES


def escape_and_shorten(text: object, max_chars: int = MAX_TEXT_CHARS) -> str:
    r"""A server's words in a line: what is not printed is escaped, what is long is cut.

    >>> escape_and_shorten("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    cut = shorten(str(text), max_chars)
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in cut)


@dataclasses.dataclass(frozen=True)
class ListedFile:
    """A file as a server lists it, of whatever types."""

    path: Any
    size: Any
    hashes: tuple[Any, ...] = ()  # each None, or hexadecimal digits


def check_listing(rows: Iterable[tuple[ListedFile, T]], who: str) -> tuple[dict[str, T], str]:
    """What is made of each row, by its path, and which were left out as their paths are none, in words or "".

    Raises Refused for what else is odd.
    """
    found: dict[str, tuple[ListedFile, T]] = {}
    odd: list[str] = []
    for row, value in rows:
        if not isinstance(row.path, str):
            raise ResponseRejected(
                f"{who} lists a file whose path is {escape_and_shorten(repr(row.path), 80)}, which is no text"
            )
        if not is_path(row.path):
            odd.append(row.path)
            continue
        if not is_size(row.size):
            raise ResponseRejected(
                f"{who} lists {row.path} with the size {escape_and_shorten(repr(row.size), 80)}, "
                "which is no number of bytes"
            )
        for digits in row.hashes:
            if digits is not None and not is_commit(digits):
                raise ResponseRejected(
                    f"{who} lists {row.path} with the hash {escape_and_shorten(repr(digits), 80)}, which is none"
                )
        if found.setdefault(row.path, (row, value))[0] != row:
            raise ResponseRejected(f"{who} lists {row.path} twice, as two different files")
    if sum(row.size for row, _ in found.values()) > MAX_TOTAL_BYTES:
        raise ResponseRejected(f"{who} lists more than {MAX_TOTAL_BYTES:,} bytes")
    more = f" and {len(odd) - 1:,} more" if len(odd) > 1 else ""
    message = (
        f"left out, as a name could lead elsewhere or hide something: {escape_and_shorten(repr(odd[0]), 120)}{more}"
        if odd
        else ""
    )
    return {path: made for path, (_, made) in found.items()}, message


def origin(url: str) -> tuple[str, str, int | None] | None:
    """What has to be the same for a token to be sent: scheme, host and port; None for what is no address."""
    try:
        place = urlsplit(url)
        port = place.port or {"http": 80, "https": 443}.get(place.scheme)
        return (place.scheme.lower(), (place.hostname or "").lower(), port) if place.hostname else None
    except ValueError:
        return None


def host(url: str) -> str:
    """The server of an address, for a message."""
    return escape_and_shorten(re.sub(r"^(\w+://)(?:[^/@]*@)?([^/?#]+).*", r"\1\2", str(url), flags=re.DOTALL), 120)


def _is_printable_url(url: str) -> bool:
    return len(url) <= 16_384 and not any(unicodedata.category(sign) in _CONTROL_CATEGORIES for sign in url)


def _is_address(place: str, base: str) -> bool:
    """Whether a redirect may be followed."""
    if not _is_printable_url(place) or not place:
        return False
    try:
        to = origin(urljoin(base, place))
    except ValueError:
        return False
    return to is not None and (to[0] == "https" or (to[0] == "http" and not base.startswith("https:")))
