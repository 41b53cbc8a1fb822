"""What the command begins before all else."""

from __future__ import annotations

import functools

from cook.executors import process
from cook.tokenizer.presets import find_preset, load_vocabulary


def preload_vocabulary(name: str) -> None:
    """Load the vocabulary, if that is a preset's name, beside what this thread does next."""
    if preset := find_preset(name):
        process.start_in_background(functools.partial(load_vocabulary, preset))
