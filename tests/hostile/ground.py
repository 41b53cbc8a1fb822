"""Where a hostile server meets cook: a tree of files that are none of its business, and the command, run in between."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conftest import entry
from cook.cli.app import main
from hostile.values import PLACE

LINE = json.dumps(entry("The pump runs at three bar in winter.")).encode() + b"\n"
QUICK = 12  # every so manieth case runs in the normal suite
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SECONDS = 20.0


def some(cases: Iterable[tuple[str, str, Any]]) -> pytest.MarkDecorator:
    """All cases, those beyond every QUICK-th by `-m many`."""
    every = [
        pytest.param(
            case, number, id=f"{number}-{case[0]}-{case[1].strip('/')}", marks=[pytest.mark.many] * (number % QUICK > 0)
        )
        for number, case in enumerate(cases)
    ]
    return pytest.mark.parametrize(("case", "number"), every)


class Ground:
    """A folder with a home, an output's parent and a file beside them, none of which a server may change."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.place = root / "precious" / "rc"
        for name in ("precious/rc", "precious/rc.json", "home/.bashrc", "home/.cache/x", "work/notes.txt"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"mine: {name}\n")
        monkeypatch.setenv("HOME", str(root / "home"))
        self.before = self._tree()

    def placed(self, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A change of replies, with the path of a precious file in the place of PLACE."""

        def put(reply: Any) -> Any:
            changed = change(reply)
            headers = {key: value.replace(PLACE, str(self.place)) for key, value in changed.headers.items()}
            return changed._replace(
                headers=headers, body=changed.body.replace(PLACE.encode(), str(self.place).encode())
            )

        return put

    def run(
        self, kind: str | int, *source: str, code: int | None = None, told: str = "", seconds: float = SECONDS
    ) -> None:
        """List, preview or cook; what must hold after any answer is checked."""
        kind = ("list", "dry run", "cook")[kind % 3] if isinstance(kind, int) else kind
        cooked = ("-d", "d", "-t", "llama3", "-o", str(self.root / "out"), *source)
        arguments = {"list": ("list", "datasets", *source), "dry run": (*cooked, "--dry-run"), "cook": cooked}[kind]
        begun, before = time.monotonic(), Path.cwd()
        os.chdir(self.root / "work")
        try:
            done = CliRunner().invoke(main, list(arguments))
        finally:
            os.chdir(before)
        assert time.monotonic() - begun < seconds
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        printed = done.stdout + done.stderr
        assert "Traceback" not in printed
        assert not STEERING.search(printed), repr(printed)
        assert max(map(len, printed.splitlines()), default=0) < 1_500
        assert done.exit_code in ((0, 1) if code is None else (code,)), printed
        assert re.search(told, " ".join(printed.split())), printed
        if done.exit_code:
            lines = [line for line in done.stderr.splitlines() if not line.startswith("cook: warning:")]
            assert len(lines) == 1, printed
            assert lines[0].startswith("cook: ")
        self.check()

    def check(self) -> None:
        """Every file beside the caches and the output is what it was."""
        assert self._tree() == self.before

    def _tree(self) -> dict[str, bytes]:
        paths = (
            path
            for path in self.root.rglob("*")
            if path.is_file() and "out" not in path.relative_to(self.root).parts[:1]
        )
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}
