"""The code stays readable: short functions, few parameters, and no word of the old glossary."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "cook"
MODULES = sorted(SRC.rglob("*.py"))
MAX_LINES, MAX_PARAMETERS = 40, 7
OLD_WORDS = (
    "kitchen", "dough", "larder", "baked", "unheard", "told_of", "data set", "data_set", "misfits", "remade", "unfit",
)  # fmt: skip
# Keyword settings that people pass by name: click's commands, and the public functions behind them.
BY_NAME = {"command", "mix", "export", "parse", "prompts", "fingerprint_command"}


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def module(path):
    return str(path.relative_to(SRC))


@pytest.mark.parametrize("path", MODULES, ids=module)
def test_functions_are_short_and_take_few_parameters(path):
    long = [f"{node.name}: {node.end_lineno - node.lineno + 1} lines" for node in functions(path)
            if node.end_lineno - node.lineno >= MAX_LINES]  # fmt: skip
    many = [
        f"{node.name}: {count} parameters"
        for node in functions(path)
        if node.name not in BY_NAME
        and (count := sum(arg.arg not in ("self", "cls") for arg in (*node.args.args, *node.args.kwonlyargs)))
        > MAX_PARAMETERS
    ]
    assert long + many == []


@pytest.mark.parametrize("path", MODULES, ids=module)
def test_no_word_of_the_old_glossary(path):
    assert re.findall(rf"(?i)\b(?:{'|'.join(OLD_WORDS)})\b", path.read_text()) == []
