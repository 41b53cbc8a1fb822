"""Packages import only from packages below them, and modules in no circle; every import counts, wherever it stands.

Counted: imports at the top, in functions, under TYPE_CHECKING, relative ones, modules that `import_module` or a table
of lazy imports names.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cook

SOURCE = Path(cook.__file__).parent
ABOVE = {"cook", "__main__"}  # these name what is public, and start the command
BELOW = {"_version"}
LAZY = {"_MODULES": "cook", "COMMANDS": "cook.cli.commands"}  # tables, and what their names begin with
ALLOWED = {
    "core": "",
    "read": "core",
    "store": "core",
    "executors": "core",
    "tokenizer": "core read",
    "pack": "core store",
    "shapes": "core read tokenizer",
    "trainers": "core store tokenizer executors",
    "encode": "core read store shapes tokenizer",
    "synthesis": "core read store shapes tokenizer executors",
    "pipeline": "core read store executors tokenizer pack shapes encode",
    "corpora": "core read store executors tokenizer pack shapes encode pipeline",
    "check": "core read store executors tokenizer pack shapes trainers encode synthesis pipeline corpora",
    "views": "core read store executors tokenizer pack shapes trainers encode synthesis pipeline corpora",
    "cli": "core read store executors tokenizer pack shapes trainers encode synthesis pipeline corpora check views",
}


def modules_of(source: Path) -> dict[str, Path]:
    """The modules of the package in a folder, by their full names."""
    found = {}
    for path in source.rglob("*.py"):
        parts = [source.name, *path.relative_to(source).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def named(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """What a module imports, by full names that may go on below a module's, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield str(name.value), node.lineno
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            prefix = LAZY.get(ast.unparse(node.targets[0]))
            where = node.value.keys if prefix == "cook" else node.value.values
            for each in where if prefix else ():
                if isinstance(each, ast.Constant):
                    yield f"{prefix}.{each.value}", node.lineno


def imports_of(source: Path) -> dict[str, dict[str, int]]:
    """Which modules each module imports, and on which line."""
    modules = modules_of(source)
    found: dict[str, dict[str, int]] = {}
    for module, path in modules.items():
        mine = found[module] = {}
        for name, line in named(ast.parse(path.read_text(encoding="utf-8")), module, path.name == "__init__.py"):
            while name and name not in modules:
                name = name.rpartition(".")[0]  # noqa: PLW2901 - a name of a module, or the module
            if name not in ("", module, source.name):
                mine.setdefault(name, line)
    return found


def package_of(module: str) -> str:
    """`read` of cook.read.hub.client; `cook` of cook."""
    return ".".join(module.split(".")[:2]).rpartition(".")[2]


def faults(source: Path) -> list[str]:
    """Imports that climb, and circles of modules."""
    imports = imports_of(source)
    found = []
    for module, names in imports.items():
        mine = package_of(module)
        for name, line in names.items():
            other = package_of(name)
            if mine not in (*ABOVE, other) and other not in (*BELOW, *ALLOWED.get(mine, "").split()):
                found.append(f"{module}:{line} imports {name}: {mine} may import {ALLOWED.get(mine) or 'nothing'}")
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as exc:
        found.append(f"a circle: {' -> '.join(reversed(exc.args[1]))}")
    return found


def test_packages_import_what_lies_below_them():
    assert faults(SOURCE) == []


def test_every_package_has_its_place():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == ALLOWED.keys()
    assert {path.stem for path in SOURCE.glob("*.py")} == {"__init__", "__main__", "_version"}


def test_no_package_bears_the_name_of_a_public_function():
    """Once `cook.run` is a module, the lazy function of that name is never asked for again."""
    assert not {path.stem for path in SOURCE.iterdir()} & (set(cook.__all__) - {"__version__"})
    for module in modules_of(SOURCE):
        above, _, name = module.rpartition(".")
        if above and name not in ("cook", "main"):
            path = modules_of(SOURCE)[above]
            assert (
                path.name != "__init__.py"
                or above == "cook"
                or not any(
                    isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
                    for node in ast.parse(path.read_text(encoding="utf-8")).body
                )
            )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("from cook.cli import app\n", 1),
        ("def f():\n    import cook.cli.app\n", 2),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cook.cli.app import main\n", 3),
        ("import importlib\nAPP = importlib.import_module('cook.cli.app')\n", 2),
        ("from ..cli.app import main\n", 1),
        ("_MODULES = {'cli.app': ('main',)}\n", 1),
    ],
    ids=["top", "function", "typing", "string", "relative", "table"],
)
def test_an_import_that_climbs_is_found(tmp_path, text, line):
    source = tree(tmp_path, **{"core/low.py": text, "cli/app.py": "def main(): ...\n"})
    assert faults(source) == [f"cook.core.low:{line} imports cook.cli.app: core may import nothing"]


def test_a_circle_within_a_package_is_found(tmp_path):
    source = tree(
        tmp_path, **{"core/a.py": "from cook.core import b\n", "core/b.py": "def f():\n    from .a import x\n"}
    )
    assert len(faults(source)) == 1
    assert "a circle: " in faults(source)[0]


def test_imports_that_go_down_are_no_faults(tmp_path):
    source = tree(
        tmp_path,
        **{
            "core/low.py": "X = 1\n",
            "cli/app.py": "from cook.core.low import X\nimport os\nfrom . import other\n",
            "cli/other.py": "",
        },
    )
    assert faults(source) == []


def tree(folder: Path, **files: str) -> Path:
    """A package `cook` of these files."""
    for name, text in {**files, "__init__.py": "", "core/__init__.py": "", "cli/__init__.py": ""}.items():
        path = folder / "cook" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "cook"
