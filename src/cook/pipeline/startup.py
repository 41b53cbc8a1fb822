"""What the command begins before all else."""

from __future__ import annotations

import functools

from cook.executors import process
from cook.tokenizer.presets import Preset, find_preset, vocabulary


def begin(name: str, decodes: bool = False) -> None:
    """Load the vocabulary, if that is a preset's name, beside what this thread does next; and what a decoder needs."""
    if preset := find_preset(name):
        process.beside(functools.partial(_tokens_too if decodes else vocabulary, preset))


def _tokens_too(preset: Preset) -> None:
    from cook.tokenizer.engines.bundled import plain_tokens

    plain_tokens(preset)
