"""Runs the command in forked children: cook is imported once, and nothing is encoded before the fork (engines hang).

Requests come as lines of JSON on standard input, replies go to standard output:

    {"arguments": […], …}   start the command; the reply is its process id
    {"wait": PID}           wait for its end; the reply is its exit code, what it printed, and its file events

A child counts file events: what audit hooks tell of (opening, renaming, removing, folders, locks, maps), and calls of
write, flush, fsync and close. Before the one that `kill_at` names it sends itself SIGKILL, or the signal `kill_by`.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import resource
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet  # noqa: F401 - what a run imports is imported here
import tokenizers  # noqa: F401

import cook.pipeline.runner  # noqa: F401
from cook.cli.app import main
from cook.executors import local
from cook.read import lines
from cook.store import staging
from cook.store import write as parquet

AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "fcntl.flock", "mmap.__new__", "ctypes.dlsym"}
CALLED = {"write", "flush", "close", "__exit__", "fsync"}


class Events:
    """Counts file events of this process, and kills it before the one of the given number."""

    def __init__(self, within: str, kill_at: int | None = None, kill_by: int = signal.SIGKILL) -> None:
        self.within, self.kill_at, self.kill_by = within, kill_at, kill_by
        self.number, self.renames = itertools.count(1), list[int]()
        sys.addaudithook(self.audited)
        threading.setprofile(self.called)
        sys.setprofile(self.called)

    def audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See sys.addaudithook."""
        if event in AUDITED or (event == "open" and str(arguments[0]).startswith(self.within)):
            at = self.count()
            if event == "os.rename" and not all(self.unpublished(path) for path in arguments[:2]):
                self.renames.append(at)

    @staticmethod
    def unpublished(path: Any) -> bool:
        """What is still to become a result, and tokens."""
        return any(part in (staging.WORK_DIR, "spools") for part in Path(str(path)).parts)

    def called(self, _: Any, event: str, what: Any) -> None:
        """See sys.setprofile."""
        if event == "c_call" and what.__name__ in CALLED and (isinstance(what.__self__, io.IOBase) or what is os.fsync):
            self.count()

    def count(self) -> int:
        """One more; its number."""
        at = next(self.number)
        if at == self.kill_at:
            os.kill(os.getpid(), self.kill_by)
        return at


def child(request: dict[str, Any], printed: int, told: int) -> NoReturn:
    """Run the command, tell of its events, and end."""
    code: Any = 70
    try:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        os.environ.update(request.get("environment", {}))
        lines.PART_BYTES = request.get("part_bytes", 6_000)
        parquet.FILE_TOKENS = request.get("file_tokens", 12_000)
        if not request.get("exchanges", True):
            staging.swap_folders = lambda one, other: False  # as on a file system that cannot
        if most := request.get("largest_file"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        counting = {key: request[key] for key in ("within", "kill_at", "kill_by") if key in request}
        events = Events(**counting) if counting else None
        try:
            main(request["arguments"], prog_name="cook")
        except SystemExit as ended:
            code = ended.code or 0
        if events:
            os.write(told, json.dumps({"events": next(events.number) - 1, "renames": events.renames}).encode())
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer requests until there are no more."""
    local.DEFAULT_IN_FLIGHT = 4
    running: dict[int, tuple[int, int]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if pid := request.get("wait"):
            texts = []
            for end in running.pop(pid):
                with open(end, "rb") as file:
                    texts.append(file.read().decode())
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            reply: Any = {"code": code, "printed": texts[0], **json.loads(texts[1] or "{}")}
        else:
            (printed, write), (told, tell) = os.pipe(), os.pipe()
            if (reply := os.fork()) == 0:
                child(request, write, tell)
            os.close(write)
            os.close(tell)
            running[reply] = printed, told
        print(json.dumps(reply), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
