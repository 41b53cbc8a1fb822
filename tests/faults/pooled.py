"""The command, with worker processes however small the input is."""

from cook import entries, executors
from cook.store import parquet

executors.POOL_BYTES, entries.PART_BYTES, parquet.FILE_TOKENS = 0, 6_000, 12_000

if __name__ == "__main__":
    from cook.cli import main

    main(prog_name="cook")
