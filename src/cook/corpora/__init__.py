"""Instruction-augmented texts for pre-training: contexts with their pairs in many plain-text styles.

styles      what a text may look like: YAML, checked -> Styles
  |
pair_parts  a pair -> its kind, and its parts (options, chain of thought)        (pure)
  |
render      entries of one text + styles + seed -> the text                      (pure)
  |
documents   a part of a shard -> texts, chains joined                            (one part a job)
  |
text_files  texts -> JSONL, Parquet                                              (one output file a job)
tokens      texts -> ids, every one trained; then packed and stored as pairs are (see `pipeline.build`)
  |
making      recipe -> its datasets over an executor -> summary
"""
