"""The names that settings take. Imports nothing, so that the command's help and completion start fast."""

from __future__ import annotations

PACKINGS: tuple[str, ...] = ("best-fit", "best-fit-decreasing", "in-order", "none")
CORPUS_PACKINGS: tuple[str, ...] = ("best-fit", "best-fit-decreasing", "in-order", "wrap", "none")
PACKING_ALIASES = {"bfd": "best-fit-decreasing", "wrapped": "wrap"}  # TRL's names
OVERLONG_POLICIES: tuple[str, ...] = ("split", "truncate", "drop", "error")
ON_ERROR_POLICIES: tuple[str, ...] = ("fail", "skip")
SPLIT_POLICIES: tuple[str, ...] = ("names", "all-train")
ENGINES: tuple[str, ...] = ("auto", "splintr", "fastokens", "hf")
ADDED_TOKENS: tuple[str, ...] = ("text", "tokens")
EXECUTORS: tuple[str, ...] = ("local", "dask")
PRESET_NAMES: tuple[str, ...] = ("llama3", "llama2", "mistral")
TARGETS: tuple[str, ...] = (
    *("trl", "hf", "llama-factory", "axolotl", "torchtune", "megatron-bridge", "olmo-core", "jsonl"),
)
SOURCES: tuple[str, ...] = ("hub", "sample", "modelscope", "hf://datasets/", "modelscope://datasets/")
