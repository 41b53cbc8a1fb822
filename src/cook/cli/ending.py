"""How signals end the command: in order if that takes a moment, by force after DEADLINE, whatever it is at.

The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt once, and what is being cooked is cleared away as it comes
up. Later ones are ignored: they would come up in the middle of that. It waits for a module that is being imported: many
of those that are not Python crash where an error comes up in them. What an end by force leaves, the next run clears:
the system frees locks, workers end with their parent.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import time
from types import FrameType, SimpleNamespace
from typing import NoReturn

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEADLINE = 3.0  # seconds
IMPORT_POLL_INTERVAL = 0.01  # seconds between looks whether a module is still being imported

_state = SimpleNamespace(signum=0, reported=False)


def install_handlers(*endings: signal.Signals) -> None:
    """Have these signals, or all of END_SIGNALS, end the command; not those that it was told to ignore, as by nohup."""
    for ending in endings or END_SIGNALS:
        if signal.getsignal(ending) != signal.SIG_IGN:
            signal.signal(ending, _handle_signal)


def pending_signal() -> int:
    """The signal that is ending the command; 0 while there is none."""
    signum: int = _state.signum
    return signum


def ignore_signals() -> None:
    """Let no signal come up any more: all is done."""
    for ending in END_SIGNALS:
        signal.signal(ending, signal.SIG_IGN)


def report_end(more: str = "") -> int:
    """Say once that the command was interrupted, and give its exit code."""
    signum = _state.signum or signal.SIGINT
    if not _state.reported:
        what = "interrupted" if signum == signal.SIGINT else f"ended by {signal.Signals(signum).name}"
        with contextlib.suppress(OSError):
            os.write(2, f"cook: {what}{more}\n".encode())
        _state.reported = True  # after it: a late interrupt that comes up before would leave nothing said
    return 128 + signum


def exit_now(more: str = "") -> NoReturn:
    """End the process now, and nothing of Python's that could wait."""
    code = report_end(more)
    _release_semaphores()
    os._exit(code)


def _handle_signal(signum: int, frame: FrameType | None) -> None:
    if _state.signum:
        return
    _state.signum = signum
    # No lock is taken here: who is interrupted may hold it.
    _thread.start_new_thread(_force_exit, ())
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda *_: None
    if threading := sys.modules.get("threading"):
        threading.excepthook = lambda *_: None  # type: ignore[attr-defined]
    _raise_interrupt(signum, frame)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    # Blocked signals still come up here, of other threads: workers are being started.
    if _is_importing(frame) or signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.signal(signal.SIGALRM, _raise_interrupt)
        signal.setitimer(signal.ITIMER_REAL, IMPORT_POLL_INTERVAL)
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE + 1)  # ends it where Python cannot
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _force_exit() -> None:
    time.sleep(DEADLINE)
    code = report_end("; what was at work did not end in time, and was ended")
    if multiprocessing := sys.modules.get("multiprocessing.process"):
        for worker in list(multiprocessing._children):
            with contextlib.suppress(Exception):
                os.kill(worker.pid, signal.SIGKILL)
    _release_semaphores()
    os._exit(code)


def _release_semaphores() -> None:
    """Give back semaphores, which the system keeps, and which Python would tell of."""
    if util := sys.modules.get("multiprocessing.util"):
        with contextlib.suppress(BaseException):
            util._run_finalizers(0)
