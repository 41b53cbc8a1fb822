"""Cooked sequences as trainers read them: `cook export`, `cook.load`, `cook.Collator`.

exporter   a folder of a target's files, whole or not at all; the table of targets
job        what a writer is given, and what it gives back
rows       cooked rows, and what trainers ask of them: places, segments, rolled masks, padding     (pure)
tables     trl, hf, llama-factory, axolotl, torchtune, megatron-bridge
olmo       olmo-core
jsonl      jsonl, for people
usage      USE.md, filled in from usage/TARGET.md: the settings that are right, and those that are silently wrong
collator   what is cooked -> a datasets.Dataset; rows -> batches for a model

A target is a row of `exporter.TARGETS` and a page in usage/.
"""
