"""What the command begins before all else."""

from __future__ import annotations

import functools

from cook.executors import process
from cook.tokenizer.presets import Preset, find_preset, load_vocabulary


def preload_vocabulary(name: str, decodes: bool = False) -> None:
    """Load the vocabulary of a preset in the background, and with `decodes` the bytes of its tokens."""
    if preset := find_preset(name):
        process.start_in_background(functools.partial(_tokens_too if decodes else load_vocabulary, preset))


def _tokens_too(preset: Preset) -> None:
    from cook.tokenizer.engines.bundled import plain_tokens

    plain_tokens(preset)
