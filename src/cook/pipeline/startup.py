"""What the command begins before all else."""

from __future__ import annotations

import functools

from cook.executors import process
from cook.tokenizer.presets import find_preset, vocabulary


def begin(name: str) -> None:
    """Load the vocabulary, if that is a preset's name, beside what this thread does next."""
    if preset := find_preset(name):
        process.beside(functools.partial(vocabulary, preset))
