"""Outputs compared with their manifests, their shards, or each other.

verifier        the check for each output; matching of shards; findings -> `Verified`
folder          the part that all checks share: files against the manifest
rows            columns, lengths, special ids, mask and labels of every row
sequences       datasets: settings, rows, sums, and the plan that the recipe gives
against_source  datasets against their shards                                   (`cook verify --deep`)
mix             mixes
corpus          corpora, against manifest and shards
synthesis       prompts and parsed datasets
fingerprints    an output -> its fingerprint                                    (`cook fingerprint`)
comparison      two outputs or fingerprints -> their differences, as sentences  (`cook diff`)
hashing         a hash of 64 bits for each of many examples
"""
