"""`python -m cook`."""

from cook.cli import start

if __name__ == "__main__":
    start()
