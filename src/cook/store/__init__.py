"""Plan + tokens -> Parquet, manifest and card on disk; and back.

parquet    sequences gathered from spool files into train-*.parquet, row group by row group
pages      the bytes of such a file, laid out from arrays
manifest   cook.json: what determined the bytes, and what they are; written last
publish    a data set's folder, whole or not at all
card       README.md of the root: `load_dataset(ROOT, "squad")`, licences, citation
reader     a cooked data set, opened again and checked

ROOT/
  README.md
  squad/
    train-00000-of-00001.parquet
    skipped.jsonl
    cook.json
"""
