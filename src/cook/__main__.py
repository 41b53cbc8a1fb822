"""The command, and `python -m cook`."""

import os


def start() -> None:
    """Run the command. An interrupt while it is imported is told as any other."""
    try:
        from cook.cli.app import start as begin
    except KeyboardInterrupt:
        os.write(2, b"cook: interrupted\n")
        os._exit(130)
    begin()


if __name__ == "__main__":
    start()
