"""Calls of the Hub's client: what is temporary is tried again, and every error becomes a Trouble that says what to do.

The client itself tries some requests again and not others, by version; it says LocalEntryNotFoundError, with the true
cause behind it, for most of what a Hub can answer; and a body that is severed ends in an error of its HTTP library.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cook.errors import CookError

T = TypeVar("T")
WAITS = (1.0, 3.0)  # seconds before each further try
READ_BYTES = 1 << 20
LONGEST_WAIT = 60.0  # seconds; where a Hub asks for more, the user is told when to come back
PATIENCE = 10.0  # seconds after which a Hub that cannot be reached is not called again: the client itself has tried
UNREACHED = ("ConnectError", "ConnectTimeout")  # of the client's HTTP library, which is another one by version
MISSING = "no such repository on the Hub, or a private one"
UNCACHED = "is not in the local cache"
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class Trouble(Exception):
    """A call that failed, in words. Becomes a CookError where it is caught."""

    def __init__(self, told: str, temporary: bool = False, wait: float = 0, unreached: bool = False) -> None:
        super().__init__(told)
        self.temporary = temporary
        """Whether another time may be better; so a copy that is known to be whole may stand in."""
        self.wait = wait
        """Seconds that the Hub asks to wait."""
        self.unreached = unreached
        """Whether no connection was made at all."""


def call(ask: Callable[[], T], repo: str, file: str = "", revision: str | None = None) -> T:
    """What `ask` returns; it is asked again, after WAITS or what the Hub asks for, for what is temporary.

    Raises Trouble.
    """
    from huggingface_hub.utils import logging as client_logging

    # Its own retries are told in a log to standard error, line by line; what they come to is told here, once.
    client_logging.set_verbosity(logging.ERROR)
    begun = time.monotonic()
    for wait in (*WAITS, None):
        try:
            return ask()
        except CookError:
            raise
        except Exception as exc:  # errors of whichever HTTP library the client uses, which have no common base
            trouble = explained(exc, repo, file, revision)
            in_vain = trouble.unreached and time.monotonic() - begun > PATIENCE
            if wait is None or not trouble.temporary or trouble.wait > LONGEST_WAIT or in_vain:
                raise trouble from exc
            time.sleep(max(wait, trouble.wait))
    raise AssertionError("the last try returns or raises")


def is_offline() -> bool:
    """Whether the user wants no request to be made."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def hashes(path: Path, size: int, git: bool = True) -> tuple[str, str]:
    """The sha256 of a file of `size` bytes, and the sha1 of it as a blob of git. Raises OSError."""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            sha256.update(piece)
            if git:
                sha1.update(piece)
    return sha256.hexdigest(), sha1.hexdigest()


def remove(path: Path) -> None:
    """Remove a file of the client's cache: the content, and the name that leads to it. Raises OSError."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def explained(exc: BaseException, repo: str, file: str = "", revision: str | None = None) -> Trouble:
    """An error of the client, in words."""
    from huggingface_hub import constants, errors

    causes = list(_causes(exc))
    name = f"{repo}: {file}" if file else repo
    known = {
        errors.GatedRepoError: f"{repo}: is gated; ask for access on its page on the Hub, then {LOG_IN}",
        # The class of the one above, which comes first.
        errors.RepositoryNotFoundError: f"{repo}: {MISSING}: check its name, or {LOG_IN}",
        errors.RevisionNotFoundError: f"{repo}: has no revision {revision}: check the branch, tag or commit",
        errors.DisabledRepoError: f"{repo}: has been disabled on the Hub",
        errors.RemoteEntryNotFoundError: f"{name}: the Hub has no such file in this revision",
        errors.HFValidationError: f"{name}: cannot be a repository and a revision: {_one_line(exc)}",
    }
    for kind, told in known.items():
        if any(isinstance(cause, kind) for cause in causes):
            return Trouble(told)
    if answered := next((r for cause in causes if (r := getattr(cause, "response", None)) is not None), None):
        return _of_status(answered, name)
    if local := next((cause for cause in causes if _is_local(cause)), None):
        return Trouble(f"{name}: cannot be kept in the client's cache: {_one_line(local)}")
    if isinstance(causes[-1], errors.LocalEntryNotFoundError):  # no request was made
        return Trouble(f"{name}: {UNCACHED}")
    if unreached := next((cause for cause in causes if type(cause).__name__ in UNREACHED), None):
        told = f"{name}: {constants.ENDPOINT} cannot be reached: {_one_line(unreached)}; try again"
        return Trouble(told, temporary=True, unreached=True)
    return Trouble(f"{name}: cannot be fetched: {_one_line(causes[-1])}; try again", temporary=True)


def _of_status(response: Any, name: str) -> Trouble:
    """What an answer of the Hub means that its client has no error of its own for."""
    status = int(response.status_code)
    if status == 401:
        return Trouble(f"{name}: the Hub does not accept the token (401): {LOG_IN} anew, or unset HF_TOKEN")
    if status == 403:
        return Trouble(f"{name}: the Hub refuses access (403): {LOG_IN}, of who may read it")
    if status == 404:
        return Trouble(f"{name}: {_host(response)} answers 404 and does not say why: check HF_ENDPOINT if it is set")
    if status == 429:
        wait = _asked_wait(response.headers)
        when = f"in {wait:.0f} s" if wait else "in some minutes"
        told = f"{name}: the Hub limits requests (429): try again {when}; who is logged in may ask more ({LOG_IN})"
        return Trouble(told, temporary=True, wait=wait)
    if status == 408 or status >= 500:
        told = f"{name}: the Hub has an error of its own (it answers {status}): try again later"
        return Trouble(told, temporary=True, wait=_asked_wait(response.headers))
    return Trouble(f"{name}: {_host(response)} answers {status}, which is not known of a Hub: check HF_ENDPOINT")


def _host(response: Any) -> str:
    return re.sub(r"^(\w+://[^/]+).*", r"\1", str(getattr(response, "url", "the Hub")))


def _asked_wait(headers: Any) -> float:
    """The seconds that a Hub asks to wait: of Retry-After, or until the window of its limit ends; 0 if it does not."""
    lower = {key.lower(): value for key, value in headers.items()}
    asked = re.fullmatch(r"\s*(\d+)\s*", lower.get("retry-after", ""))
    asked = asked or re.search(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", lower.get("ratelimit", ""))
    return float(asked[1]) if asked else 0.0


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
    told = "; ".join(line for line in lines if line and not line.startswith("For more information"))
    return told.rstrip(".") or type(exc).__name__
