"""The command, with worker processes however small the input is; spawned if its first argument says so."""

import sys

from cook.cli import ending

try:
    ending.install_handlers()
    from cook.executors import process

    if sys.argv[1:2] == ["spawned"]:
        process.THREADED_ENGINES.add("sys")
    process.configure_process()  # before numpy is imported

    from cook.executors import local
    from cook.read import lines
    from cook.store import write

    local.POOL_BYTES, lines.PART_BYTES, write.FILE_TOKENS = 0, 6_000, 12_000
    from cook.__main__ import start
except KeyboardInterrupt:
    ending.exit_now()

if __name__ == "__main__":
    sys.argv[1:] = sys.argv[2:] if sys.argv[1] == "spawned" else sys.argv[1:]
    start()
