"""The command as it is, but that even small shards have several parts."""

from cook.cli import ending

try:
    ending.install_handlers()
    from cook.read import lines
    from cook.store import write

    lines.PART_BYTES, write.FILE_TOKENS = 6_000, 12_000
    from cook.__main__ import start
except KeyboardInterrupt:
    ending.exit_now()

if __name__ == "__main__":
    start()
