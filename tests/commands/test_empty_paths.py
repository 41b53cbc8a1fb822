"""A path that is empty, as of a variable that is not set, is a usage error: everywhere, and before anything is done."""

import inspect
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cook
from cook import RecipeError
from cook.cli.app import COMMANDS, main
from cook.cli.commands.listing import list_datasets
from cook.cli.options import PathType
from cook.core import cache

# Options that take text which is no path: one that is new is put here, or is a Place.
TEXTS = {
    *("datasets", "dataset", "revision", "bos", "eos", "context_template", "pair_template", "delimiter", "scheduler"),
    *("asked", "split", "fields", "field", "model", "version", "command"),
}


def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by its words."""
    found: dict[tuple[str, ...], click.Command] = {(): main}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        found[(name,)] = command
        if isinstance(command, click.Group):
            found |= {(name, of): below for of, below in command.commands.items()}
    return found


PLACES = [
    (words, param)
    for words, command in commands().items()
    for param in command.params
    if isinstance(param.type, PathType)
]


def test_every_option_that_takes_a_path_is_known_as_one():
    for words, command in commands().items():
        for param in command.params:
            assert type(param.type) is not click.Path, f"{words} {param.name}: must be a Place"
            if isinstance(param.type, click.types.StringParamType):
                assert param.name in TEXTS or getattr(param, "is_flag", False) or param.flag_value, (
                    f"{words} {param.name}: is it a path?"
                )
    assert len(PLACES) >= 40


@pytest.mark.parametrize(
    ("words", "param"), PLACES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else value.name
)
def test_of_a_command(words, param, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = commands()[words]
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    filled = ("" if each is param else "datasets" if isinstance(each.type, click.Choice) else "x" for each in arguments)
    line = [*words, *filled]
    if isinstance(param, click.Option):
        line += [param.opts[-1], ""]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 2, result.output
    assert "the path is empty" in result.stderr
    assert not list(tmp_path.iterdir())


CALLS = {
    "mix": {"root": "x", "to": "y"},
    "export": {"folder": "x", "target": "trl", "to": "y", "tokenizer": "t"},
    "verify": {"path": "x", "source": "s", "tokenizer": "t"},
    "diff": {"a": "x", "b": "y"},
    "fingerprint": {"path": "x"},
    "show": {"path": "x", "tokenizer": "t"},
    "report": {"path": "x", "to": "y", "tokenizer": "t"},
    "prompts": {"raw": "x", "to": "y", "tokenizer": "t", "previous": "p", "cache": "c"},
    "parse": {"answers": "x", "to": "y", "prompts": "p"},
    "draft_recipe": {"folder": "x", "to": "y"},
    "load": {"path": "x"},
    "read_cooked": {"folder": "x"},
    "read_config": {"path": "x"},
    "read_styles": {"path": "x"},
}
RECIPE = ("tokenizer", "source", "output", "cache", "scheduler_file", "tls_ca", "tls_cert", "tls_key")


@pytest.mark.parametrize(
    ("call", "name"), [(call, name) for call, given in CALLS.items() for name in given if name != "target"]
)
def test_from_python(call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=rf"^(folder|{name}): (the path is empty|must not be empty)"):
        getattr(cook, call)(**CALLS[call] | {name: ""})
    assert not list(tmp_path.iterdir())


def test_every_function_that_takes_a_path_is_in_the_table():
    for name in cook.__all__:
        function = getattr(cook, name)
        if inspect.isfunction(function):
            paths = [key for key, of in inspect.signature(function).parameters.items() if "Path" in str(of.annotation)]
            assert set(paths) <= CALLS.get(name, {}).keys(), name


@pytest.mark.parametrize("name", RECIPE)
def test_of_a_recipe(name):
    with pytest.raises(RecipeError, match=f"{name}: must not be empty"):
        cook.Recipe(**{"datasets": "squad", "tokenizer": "llama3"} | {name: ""})
    with pytest.raises(RecipeError, match=f"{name}: must not be empty"):
        cook.CorpusRecipe(**{"datasets": "squad", "source": "x", "output": "y"} | {name: ""})


def test_of_what_is_no_name_of_the_package():
    for call in (cache.info, cache.clear, cache.prepare_cache, list_datasets):
        with pytest.raises(RecipeError, match="the path is empty"):
            call("")


def test_a_variable_that_is_set_to_nothing_is_not_set(monkeypatch, tmp_path):
    monkeypatch.setenv("COOK_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir(None) == Path(tmp_path) / "cook"
