"""A Dask cluster in processes of this machine, on ports of the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed

OWN = ("RAYON_NUM_THREADS", "PYTHONPATH")  # what is for this process alone


class ClusterServer:
    """A scheduler and its workers, for a with block: each a process of its own, with its log in `folder`."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self.flags = folder, flags
        self.file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> ClusterServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        where = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file)]
        self.scheduler = self._start("scheduler", *where)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
        for process in (*self.workers, self.scheduler):
            process.wait()

    @property
    def address(self) -> str:
        """The scheduler's, once it is up."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):
                return str(json.loads(self.file.read_bytes())["address"])
            time.sleep(0.02)
        raise AssertionError((self.folder / "scheduler.log").read_text())

    def add(
        self, count: int = 1, threads: int = 1, command: tuple[str, ...] = (), wait: bool = True, **environment: str
    ) -> list[int]:
        """Start workers; their process ids. `command` goes before each one's own."""
        address = self.address
        for _ in range(count):
            where = ["--nthreads", str(threads), "--no-nanny", "--local-directory", str(self.folder)]
            name = f"worker{len(self.workers)}"
            self.workers.append(self._start(name, address, *where, command=command, **environment))
        if wait:
            with self.client() as client:
                client.wait_for_workers(len(self.workers), timeout=60)
        return [process.pid for process in self.workers[-count:]]

    def client(self, **settings: Any) -> distributed.Client:
        """A client of the tests' own."""
        return distributed.Client(self.address, set_as_default=False, **settings)

    def _start(
        self, name: str, *arguments: str, command: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{name.rstrip('0123456789')}"
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, sys.executable, "-m", module, *arguments, "--no-dashboard", *self.flags],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={name: value for name, value in os.environ.items() if name not in OWN} | environment,
            )
