"""Calls of the Hub's client: what is temporary is tried again, and every error becomes a Trouble that says what to do.

The client itself tries some requests again and not others, by version; it says LocalEntryNotFoundError, with the true
cause behind it, for most of what a Hub can answer; and a body that is severed ends in an error of its HTTP library.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from cook.core.errors import CookError
from cook.read import transport
from cook.read.answers import (
    CONNECT_TIMEOUT_S,
    WEB_PAGE_MESSAGE,
    ErrorResponse,
    ResponseRejected,
    ServerQuery,
    escape_and_shorten,
    host,
    is_commit,
    retry_after_seconds,
)
from cook.read.waiting import ServerStalled, StallWatch

T = TypeVar("T")
RETRY_DELAYS = (1.0, 3.0)  # seconds before each further try
READ_BYTES = 1 << 20
CONNECTION_ERRORS = ("ConnectError", "ConnectTimeout")  # of the client's HTTP library, which is another one by version
NO_CONNECTION_TEXT = "NewConnectionError"  # in the words of requests, which has no class for it
MALFORMED_RESPONSE_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)  # what a client makes of odd answers
MISSING_REPO_MESSAGE = "no such repository on the Hub, or a private one"
UNCACHED_MESSAGE = "is not in the local cache"
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class HubError(Exception):
    """A call that failed, in words. Becomes a CookError where it is caught."""

    def __init__(
        self,
        message: str,
        temporary: bool = False,
        retry_after: float = 0,
        no_connection: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.temporary = temporary
        """Whether another time may be better; so a copy that is known to be whole may stand in."""
        self.final = final or not temporary
        """Whether not to ask again now."""
        self.retry_after = retry_after
        """Seconds that the Hub asks to wait."""
        self.no_connection = no_connection
        """Whether no connection was made at all."""


def with_retries(
    request: Callable[[], T], query: ServerQuery, repo: str, file: str = "", revision: str | None = None
) -> T:
    """What `request` returns; it is asked again, after RETRY_DELAYS or what the Hub asks for, for what is temporary.

    What the Hub answers is held against `query` before the client reads it. Raises Trouble.
    """
    from huggingface_hub.utils import logging as client_logging

    # Its own retries are told in a log to standard error, line by line; what they come to is told here, once.
    client_logging.set_verbosity(logging.ERROR)
    started = time.monotonic()
    token = transport.current_query.set(query)
    try:
        for wait in (*RETRY_DELAYS, None):
            try:
                transport.guard_hub_client()
                return request()
            except CookError:
                raise
            except Exception as exc:  # errors of whichever HTTP library the client uses, which have no common base
                error = to_hub_error(query.refusal or exc, repo, file, revision)
                unreachable = error.no_connection and time.monotonic() - started > CONNECT_TIMEOUT_S
                if wait is None or error.final or error.retry_after > query.watch.seconds_left() or unreachable:
                    raise error from exc
                time.sleep(max(wait, error.retry_after))
    finally:
        transport.current_query.reset(token)
        query.watch.response_done(query)
    raise AssertionError("the last try returns or raises")


def with_timeout(question: Callable[[], T], watch: StallWatch, name: str) -> T:
    """What `question`, a call or several, returns or raises; a Trouble if the Hub takes too long."""
    try:
        return watch.ask(question, lambda: close_connections(watch))
    except ServerStalled as exc:
        raise HubError(f"{name}: {exc}; try again later", temporary=True, final=True) from exc


def endpoint() -> str:
    """Where the client asks."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def close_connections(watch: StallWatch) -> None:
    """End what the client does, and close its connections where it has a way to: downloads remove what they wrote."""
    from huggingface_hub import utils

    watch.stopped = True
    with contextlib.suppress(Exception):
        getattr(utils, "close_session", lambda: None)()


def is_offline() -> bool:
    """Whether the user wants no request to be made."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def file_hashes(path: Path, size: int, git: bool = True) -> tuple[str, str]:
    """The sha256 of a file of `size` bytes, and the sha1 of it as a blob of git. Raises OSError."""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            sha256.update(piece)
            if git:
                sha1.update(piece)
    return sha256.hexdigest(), sha1.hexdigest()


def blob_of(path: Path) -> Path:
    """The content that a name in the client's cache leads to: its own blob, or itself; never what that leads to."""
    return Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path


def remove_cached(path: Path) -> None:
    """Remove a file of the client's cache: CACHE/REPO/snapshots/COMMIT/FILE, and its content in CACHE/REPO/blobs.

    Nothing that lies elsewhere, or that a link leads to. Raises OSError.
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    parts = path.relative_to(cache).parts if path.is_relative_to(cache) else ()
    if len(parts) < 4 or parts[1] != "snapshots" or not is_commit(parts[2]) or ".." in parts:
        raise OSError(errno.EPERM, "does not lie in the client's cache as it keeps files; not removed", str(path))
    blob = blob_of(path)
    blobs = cache / parts[0] / "blobs"
    for folder in (*(cache.joinpath(*parts[:n]) for n in range(1, len(parts))), blobs):
        if folder.is_symlink():
            raise OSError(errno.EPERM, "is a link; nothing that it leads to is removed", str(folder))
    path.unlink(missing_ok=True)
    if blob.parent == blobs and is_commit(blob.name):
        blob.unlink(missing_ok=True)


def to_hub_error(exc: BaseException, repo: str, file: str = "", revision: str | None = None) -> HubError:
    """An error of the client, in words."""
    from huggingface_hub import errors

    causes = list(_causes(exc))
    name = f"{repo}: {file}" if file else repo
    if refused := next((cause for cause in causes if isinstance(cause, ResponseRejected)), None):
        if refused.answer:
            return _error_of_status(refused.answer, name)
        return HubError(f"{name}: {refused}", temporary=refused.temporary, final=True)
    known = {
        errors.GatedRepoError: f"{repo}: is gated; ask for access on its page on the Hub, then {LOG_IN}",
        # The class of the one above, which comes first.
        errors.RepositoryNotFoundError: f"{repo}: {MISSING_REPO_MESSAGE}: check its name, or {LOG_IN}",
        errors.RevisionNotFoundError: f"{repo}: has no revision {revision}: check the branch, tag or commit",
        errors.DisabledRepoError: f"{repo}: has been disabled on the Hub",
        errors.EntryNotFoundError: f"{name}: the Hub has no such file in this revision",
        errors.HFValidationError: f"{name}: cannot be a repository and a revision: {_one_line(exc)}",
    }
    not_cached = (
        errors.LocalEntryNotFoundError
    )  # of EntryNotFoundError, and what is said wherever nothing else is known
    for kind, message in known.items():
        if any(isinstance(cause, kind) and not isinstance(cause, not_cached) for cause in causes):
            return HubError(message)
    response = next((r for cause in causes if (r := getattr(cause, "response", None)) is not None), None)
    if response is not None:  # an answer of requests that is an error is false
        return _error_of_status(ErrorResponse(response.status_code, response.headers, str(response.url)), name)
    if local := next((cause for cause in causes if _is_local(cause)), None):
        return HubError(f"{name}: cannot be kept in the client's cache: {_one_line(local)}")
    return _error_of_cause(causes, name)


def _error_of_cause(causes: list[BaseException], name: str) -> HubError:
    """What an error is that no answer of the Hub explains."""
    from huggingface_hub import constants, errors

    who = host(constants.ENDPOINT)
    message, no_connection = f"cannot be fetched: {_one_line(causes[-1])}; try again", False
    if any(isinstance(cause, errors.FileMetadataError) for cause in causes):
        message = f"{name}: {who} says nothing that a Hub says of a file: it {WEB_PAGE_MESSAGE}"
        return HubError(message, temporary=True, final=True)
    if isinstance(causes[-1], errors.LocalEntryNotFoundError):  # no request was made
        return HubError(f"{name}: {UNCACHED_MESSAGE}")
    if cause := next(
        (cause for cause in causes if type(cause).__name__ in CONNECTION_ERRORS or NO_CONNECTION_TEXT in str(cause)),
        None,
    ):
        message, no_connection = f"{who} cannot be reached: {_one_line(cause)}; try again", True
    elif isinstance(causes[-1], MALFORMED_RESPONSE_ERRORS):
        odd = f"{type(causes[-1]).__name__}: {_one_line(causes[-1])}"
        return HubError(f"{name}: {who} answers what cannot be understood ({odd})")
    return HubError(f"{name}: {message}", temporary=True, no_connection=no_connection)


def _error_of_status(response: ErrorResponse, name: str) -> HubError:
    """What an answer of the Hub means that its client has no error of its own for."""
    status = response.status_code
    wait = retry_after_seconds({key.lower(): value for key, value in response.headers.items()})
    if status == 401:
        return HubError(f"{name}: the Hub does not accept the token (401): {LOG_IN} anew, or unset HF_TOKEN")
    if status == 403:
        return HubError(f"{name}: the Hub refuses access (403): {LOG_IN}, of who may read it")
    if status == 404:
        return HubError(
            f"{name}: {host(response.url)} answers 404 and does not say why: check HF_ENDPOINT if it is set"
        )
    if status == 429:
        when = f"in {wait:.0f} s" if wait else "in some minutes"
        message = f"{name}: the Hub limits requests (429): try again {when}; who is logged in may ask more ({LOG_IN})"
        return HubError(message, temporary=True, retry_after=wait)
    if status == 408 or status >= 500:
        message = f"{name}: the Hub has an error of its own (it answers {status}): try again later"
        return HubError(message, temporary=True, retry_after=wait)
    return HubError(f"{name}: {host(response.url)} answers {status}, which is not known of a Hub: check HF_ENDPOINT")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The error and what is behind it, the true cause last."""
    seen: list[BaseException] = []
    while exc is not None and exc not in seen:
        seen.append(exc)
        yield exc
        exc = exc.__cause__


def _is_local(exc: BaseException) -> bool:
    """Whether an error is one of this machine's disk: no space, no right to write."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE)
    return isinstance(exc, OSError) and (exc.filename is not None or exc.errno in full)


def _one_line(exc: BaseException) -> str:
    lines = (line.strip() for line in str(exc).splitlines())
    message = "; ".join(line for line in lines if line and not line.startswith("For more information"))
    return escape_and_shorten(message.rstrip(".")) or type(exc).__name__
