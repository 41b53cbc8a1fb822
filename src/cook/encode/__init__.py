"""Encode shards into spools, one job a part of a shard; the table of examples; what was left out, and why."""
