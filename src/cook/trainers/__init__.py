"""Cooked sequences in the formats that trainers read: `cook export`, `cook.load`, `cook.Collator`.

exporter   the table of targets; an export as a whole
job        what a target's writer is given, and what it returns
rows       batches of cooked sequences: positions, segments, shifted masks, padding     (pure)
tables     writers of trl, hf, llama-factory, axolotl, torchtune, megatron-bridge
olmo       the writer of olmo-core
jsonl      the writer of jsonl, for people
usage      USE.md, from usage/TARGET.md: settings that are right, and settings that go wrong silently
collator   `cook.load`; rows -> batches for a model

A target is a row of `exporter.TARGETS` and a page in usage/.
"""
