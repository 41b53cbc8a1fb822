"""Cook datasets with each packing and over-long policy, verify the results against the shards, and break them.

    python scripts/check_verify.py SOURCE [--max-length 1024] [--faults 240] [--seed 0] [--limit N]

SOURCE is a folder of datasets, as for `cook --source`. Every result must pass `cook verify --deep`; then faults,
those of `tests/faults/injecting.py`, are put into copies of the results in turn, and each must be found and named. Exit
code 1 where one of this does not hold.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cook import CookError, Recipe, run, verify
from cook.core.choices import OVERLONG_POLICIES, PACKINGS
from cook.read.sources import open_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


def main() -> int:
    """Check all; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--faults", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="check-verify-") as work:
        cooked, wrong = cook_all(given, Path(work))
        return 1 if wrong + inject_all(given, cooked, Path(work) / "broken") else 0


def cook_all(given: argparse.Namespace, work: Path) -> tuple[list[Path], int]:
    """Cook and verify every dataset in every way; the folders, and how many are wrong."""
    print(
        f"{'dataset':20} {'packing':20} {'overlong':9} {'pairs':>7} {'lost':>6} {'split':>6} {'cut':>5} {'cook':>5} "
        f"{'deep':>5}  verdict"
    )
    cooked, wrong = [], 0
    for name in open_source(given.source).names():
        for packing in PACKINGS:
            for overlong in OVERLONG_POLICIES:
                recipe = Recipe(
                    datasets=name, tokenizer="llama3", source=given.source, output=work / f"{packing}-{overlong}",
                    packing=packing, overlong=overlong, max_length=given.max_length, max_dropped=1.0, limit=given.limit,
                    seed=given.seed, cache=str(work / "cache"),
                )  # fmt: skip
                row = f"{name:20} {packing:20} {overlong:9}"
                begun = time.process_time(), time.perf_counter()
                try:
                    result = run(recipe).results[0]
                except CookError as exc:
                    print(f"{row} refused: {str(exc).partition('. ')[0]}")
                    continue
                made = time.perf_counter()
                verified = verify(result.folder, deep=True, source=given.source)
                done = time.perf_counter()
                checked = verified.datasets[0]
                verdict = "right" if not checked.found and checked.compared else f"{checked.found} findings"
                wrong += verdict != "right"
                counts = result.counts
                lost = sum(counts["skipped_pairs"].values())
                print(
                    f"{row} {counts['pairs']:7,} {lost:6,} {counts['split']:6,} {counts['truncated']:5,} "
                    f"{made - begun[1]:5.2f} {done - made:5.2f}  {verdict}",
                    flush=True,
                )
                for finding in checked.findings[:5]:
                    print(f"    {finding}")
                cooked.append(result.folder)
    print(f"{len(cooked)} results, {wrong} wrong")
    return cooked, wrong


def inject_all(given: argparse.Namespace, cooked: list[Path], broken: Path) -> int:
    """Put faults into the results, in turn; how many are not found and named."""
    from faults.injecting import caught, inject

    injected, missed = Counter[str](), Counter[str]()
    for number in range(given.faults):
        folder = cooked[number * 37 % len(cooked)]  # 37: coprime to how many there are, so that kinds meet all of them
        kind, bench, named = inject(folder, given.source, broken, given.seed * 1_000_000 + number)
        injected[kind] += 1
        if problem := caught(bench, named):
            missed[kind] += 1
            print(
                f"MISSED {kind} in {folder.parent.name}/{folder.name} (fault {number}): {named}: {problem}", flush=True
            )
        shutil.rmtree(broken)
    for kind, count in sorted(injected.items()):
        print(f"{kind:45} {count - missed[kind]:4} of {count:4}")
    print(f"{'detected and named':45} {injected.total() - missed.total():4} of {injected.total():4}")
    return missed.total()


if __name__ == "__main__":
    sys.exit(main())
