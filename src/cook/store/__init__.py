"""Plan + tokens -> Parquet, manifest and card on disk; and back.

kinds         what a result can be, in words; its manifest's fields, and which of them determine its bytes
columns       columns, schema and names of Parquet files
write         sequences gathered from spool files into train-*.parquet, row group by row group
pages         the bytes of such a file, laid out from arrays
read          sequences back into arrays, and into a spool file
manifest      cook.json: what determined the bytes, and what they are; written last
staging       a dataset's folder, whole or not at all
replace       what lies there already: up to date, to be replaced, or another's
dataset_card  README.md of the root: `load_dataset(ROOT, "squad")`, licences, citation
outputs       a cooked dataset, opened again and checked

ROOT/
  README.md
  squad/
    train-00000-of-00001.parquet
    skipped.jsonl
    cook.json
"""
