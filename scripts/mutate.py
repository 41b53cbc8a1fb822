"""Small changes of the code that no test notices: a seeded sample of them, each tried alone.

    python scripts/mutate.py MODULE... [--count 50] [--seed 0] [--jobs 1] [--tests PATH...] [--renew]

MODULE is a module or a package, such as cook.pack.planner or cook.encode. A change is of a comparison, an operator, a
condition, a constant or the order of two arguments, or leaves a statement out. It is made in a copy of the source, and
the tests that run its line run on that, the quickest first, SECONDS of them. One run of all tests with coverage tells
which they are; it takes minutes and is kept; --renew repeats it. --tests names the tests to run instead.
Changes that no test notices are printed; the exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from bisect import bisect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(tempfile.gettempdir()) / "cook-mutate"  # the coverage run
SECONDS = 40  # of tests a change, by the times that they took in it
LIMIT = 300  # seconds; tests that take longer notice the change
PAIRS = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn),
         (ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv)]  # fmt: skip
OTHER = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
KEPT_NODES, KEPT_FIELDS = (ast.JoinedStr, ast.Assert), {"annotation", "returns", "decorator_list", "exc"}


class Mutant(NamedTuple):
    """A file, its source with one change, the lines that it changes, and the change as a diff."""

    path: Path
    source: bytes
    lines: range

    def __str__(self) -> str:
        old, new = (data.decode().splitlines() for data in (self.path.read_bytes(), self.source))
        lines = list(difflib.unified_diff(old, new, n=0, lineterm=""))[3:]
        return "\n".join([f"{self.path.relative_to(ROOT)}:{self.lines.start}", *lines])


def changes(node: Any) -> Iterator[tuple[Any, str]]:
    """Each change of a node: what of it to replace, and the text to put there."""
    new = copy.copy(node)
    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in OTHER:
            new.ops = [OTHER[type(op)](), *rest]
            yield node, f"({ast.unparse(new)})"
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in OTHER:
            new.op = OTHER[type(op)]()
            yield node, f"({ast.unparse(new)})"
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value)):
            yield from ((node, str(value + 1)), (node, f"({value - 1})"))
        case ast.Call(args=[first, second, *more]) if ast.unparse(new.func) not in ("min", "max"):
            new.args = [second, first, *more]
            yield node, ast.unparse(new)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Name):
            yield test, f"(not ({ast.unparse(test)}))"
        case ast.Return(value=ast.expr()):
            yield node, "return None"
        case ast.Raise() | ast.AugAssign() | ast.Continue() | ast.Break() | ast.Expr(value=ast.Call()):
            yield node, "pass"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree that may be changed."""
    yield tree
    for field, value in ast.iter_fields(tree):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, KEPT_NODES) and field not in KEPT_FIELDS:
                yield from nodes(child)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of a module."""
    data = path.read_bytes()
    starts = [0, *accumulate(map(len, data.splitlines(keepends=True)))]
    for at, text in (change for node in nodes(ast.parse(data)) for change in changes(node)):
        begin, end = starts[at.lineno - 1] + at.col_offset, starts[at.end_lineno - 1] + at.end_col_offset
        yield Mutant(path, data[:begin] + text.encode() + data[end:], range(at.lineno, at.end_lineno + 1))


def known(renew: bool) -> tuple[CoverageData, dict[str, float]]:
    """Which tests run which line, and the seconds of each test."""
    data, times = KEPT / "coverage", KEPT / "times.xml"
    if renew or not data.exists():
        options = ["--cov=cook", "--cov-context=test", "--cov-report=", f"--junitxml={times}", "-W", "ignore"]
        run = [sys.executable, "-m", "pytest", "-n", "2", *options]
        subprocess.run(run, cwd=ROOT, env=os.environ | {"COVERAGE_FILE": str(data)}, check=False)
    found = CoverageData(str(data))
    found.read()
    cases = [case.attrib for case in ET.parse(times).iter("testcase")]  # noqa: S314 - pytest wrote it
    return found, {f"{c['classname'].replace('.', '/')}.py::{c['name']}": float(c["time"]) for c in cases}


def covering(mutant: Mutant, data: CoverageData, times: dict[str, float]) -> list[str]:
    """The tests that run a mutant's lines, the quickest first; of what is run at import, those that run the module."""
    by_line = data.contexts_by_lineno(str(mutant.path))
    lines = [line for line in mutant.lines if any(by_line.get(line, []))] or list(by_line)
    names = {context.rpartition("|")[0] for line in lines for context in by_line[line]} & times.keys()
    tests = sorted(names, key=lambda test: (times[test], test))
    return tests[: max(1, bisect(list(accumulate(map(times.__getitem__, tests))), SECONDS))]


def is_noticed(mutant: Mutant, tests: list[str]) -> bool:
    """Whether a test fails on a copy of the source with the change. Without tests none does."""
    with tempfile.TemporaryDirectory(prefix="cook-mutant-") as name:
        source = Path(shutil.copytree(ROOT / "src", Path(name) / "src", ignore=shutil.ignore_patterns("__pycache__")))
        (source / mutant.path.relative_to(ROOT / "src")).write_bytes(mutant.source)
        environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        run = [sys.executable, "-m", "pytest", "-x", *tests]
        try:
            code = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            return True
        if b"ERROR: not found: " in code.stdout + code.stderr:
            raise SystemExit("mutate: a test is gone since the run with coverage: pass --renew")
        return bool(tests) and code.returncode not in (0, 5)  # 5: no test was chosen


def main() -> int:
    """Try the sample; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    parser.add_argument("--tests", nargs="+", metavar="PATH")
    parser.add_argument("--renew", action="store_true")
    for name, number in (("--count", 50), ("--seed", 0), ("--jobs", 1)):
        parser.add_argument(name, type=int, default=number)
    given = parser.parse_args()
    paths = [ROOT / "src" / name.replace(".", "/") for name in given.modules]
    files = sorted({file for path in paths for file in [path.with_suffix(".py"), *path.rglob("*.py")] if file.exists()})
    every = [mutant for file in files for mutant in mutants(file)]
    sample = random.Random(given.seed).sample(every, min(given.count, len(every)))  # noqa: S311
    data, times = (CoverageData(), {}) if given.tests else known(given.renew)
    chosen = [given.tests or covering(mutant, data, times) for mutant in sample]
    survivors = 0
    with ThreadPoolExecutor(given.jobs) as threads:
        for mutant, tests, noticed in zip(sample, chosen, threads.map(is_noticed, sample, chosen), strict=True):
            if not noticed:
                survivors += 1
                print(f"{mutant}\n    not noticed by {len(tests)} tests", flush=True)
    told = f"{len(sample) - survivors} noticed, {survivors} not"
    print(f"seed {given.seed}: {len(sample)} of {len(every)} changes tried: {told}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
