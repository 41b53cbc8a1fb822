"""The command, and `python -m cook`."""

import os


def start() -> None:
    """Run the command. Signals end it in order from here on, also while it is imported."""
    try:
        from cook.cli import ending

        ending.install_handlers()
    except KeyboardInterrupt:
        os.write(2, b"cook: interrupted\n")
        os._exit(130)
    try:
        from cook.cli.app import start as begin

        begin()
    except BaseException as exc:
        # What comes up in the end may be another error that the interrupt led to.
        if ending.pending_signal() or isinstance(exc, KeyboardInterrupt):
            ending.exit_now()
        raise


if __name__ == "__main__":
    start()
