"""The command, with worker processes however small the input is; spawned if its first argument says so."""

import sys

from cook.executors import process

if sys.argv[1:2] == ["spawned"]:
    process.ENGINES.add("sys")
process.settle()  # before numpy is imported

from cook.executors import local  # noqa: E402
from cook.read import lines  # noqa: E402
from cook.store import write  # noqa: E402

local.POOL_BYTES, lines.PART_BYTES, write.FILE_TOKENS = 0, 6_000, 12_000

if __name__ == "__main__":
    from cook.cli.app import start

    sys.argv[1:] = sys.argv[2:] if sys.argv[1] == "spawned" else sys.argv[1:]
    start()
