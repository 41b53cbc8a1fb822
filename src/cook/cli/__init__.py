"""The command: parse, call one function, print. `main` is imported when it is asked for."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cook.cli.app import main

    return main
