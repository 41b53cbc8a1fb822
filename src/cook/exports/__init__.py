"""Cooked sequences as other trainers read them: `cook export`.

exporting  a folder of a target's files, whole or not at all; the table of targets
job        what a writer is given, and what it gives back
rows       cooked rows, and what trainers ask of them: places, segments, rolled masks, padding     (pure)
tables     trl, hf, llama-factory, axolotl, torchtune, megatron-bridge
olmo       olmo-core
reading    jsonl, for people
use        USE.md: the trainer's settings that make it right, and those that silently make it wrong

A target is a row of `exporting.TARGETS` and a page in `use`.
"""
