"""Shards -> ids in spool files, a part of a shard a job; the table of examples; what was left out, and why."""
