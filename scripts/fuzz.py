"""Feed cook damaged and hostile files for as long as one likes, and say what came of it.

    python scripts/fuzz.py --seconds 600 [--seed 0] [--only shard]

The inputs and the checks are those of `tests/faults/fuzzing.py`; the tests try a few hundred of them. What a check does
not hold for is made small and printed, and counts as one finding a kind; then the exit code is 1. A crash of a library
shows as Python's fault handler has it.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
ROUND_INPUTS = 50  # inputs of a kind before the next kind has its turn


def main() -> int:
    """Run until the time is up; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind of input")
    given = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    os.environ["COOK_CACHE"] = tempfile.mkdtemp(prefix="cook-fuzz-cache-")
    from faults import fuzzing

    faulthandler.enable()
    warnings.simplefilter("error")
    targets = {name: target for name, target in fuzzing.TARGETS.items() if given.only in (None, name)}
    if not targets:
        parser.error(f"--only: must be one of {', '.join(fuzzing.TARGETS)}")
    findings: dict[str, str] = {}
    begun, turn = time.monotonic(), 0
    try:
        while time.monotonic() - begun < given.seconds and len(findings) < len(targets):
            for name, target in targets.items():
                if name not in findings:
                    faulthandler.dump_traceback_later(20 * 60, exit=True)  # a hang where no signal is heeded
                    found = _run_round(target.check, target.inputs, given.seed + turn)
                    findings |= {name: found} if found else {}
            turn += 1
    finally:
        shutil.rmtree(os.environ["COOK_CACHE"], ignore_errors=True)
        fuzzing.forget_example()
    tried = ", ".join(f"{count:,} {what}" for what, count in fuzzing.TRIED.items())
    print(f"{time.monotonic() - begun:.0f} s, seeds {given.seed} to {given.seed + turn - 1}: {tried}")
    for name, finding in findings.items():
        print(f"\n== {name}\n{finding}")
    print(f"findings: {len(findings)}")
    return 1 if findings else 0


def _run_round(check: Callable[..., None], inputs: dict[str, Any], seed: int) -> str | None:
    """What a round of inputs brings up."""
    import hypothesis

    quiet = hypothesis.settings(
        max_examples=ROUND_INPUTS, deadline=None, derandomize=False, database=None,
        suppress_health_check=[*hypothesis.HealthCheck],
    )  # fmt: skip
    try:
        hypothesis.seed(seed)(quiet(hypothesis.given(**inputs)(check)))()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    sys.exit(main())
