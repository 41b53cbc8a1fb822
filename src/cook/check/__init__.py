"""What is cooked, held against its manifest, its shards, or another output.

verifier        which check an output needs; matching of shards; findings -> `Verified`
folder          an output against its manifest: files, sums, the plan that the recipe makes
rows            columns, lengths, special ids, mask and labels of every row
against_source  a dataset against its shards                                   (`cook verify --deep`)
corpus          corpora, likewise
synthesis       prompts and parsed answers, likewise
fingerprints    what an output is, in a few numbers
comparison      two outputs or fingerprints -> what changed, in words           (`cook diff`)
"""
