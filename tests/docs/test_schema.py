"""recipe.schema.json, which editors check recipes by: as the settings are, and as strict as cook is."""

import importlib.util
import re
from pathlib import Path

import orjson
import pytest
import yaml

import cook
from cook import Recipe, RecipeError
from cook.core.recipe import SETTING_CHECKS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").iterdir())
PLACE = Path(cook.__file__).parent / "recipe.schema.json"
LINK = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")


@pytest.fixture(scope="module")
def checker():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install '.[dev]'")
    schema = orjson.loads(PLACE.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_is_renewed():
    spec = importlib.util.spec_from_file_location("renew", ROOT / "scripts" / "renew.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert PLACE.read_bytes() == script.recipe_schema(), "it is old: run `python scripts/renew.py schema`"


def test_every_setting_is_in_it_with_its_default():
    schema = orjson.loads(PLACE.read_bytes())
    defaults = Recipe(datasets=("all",), tokenizer="llama3").as_dict()
    assert list(schema["properties"]) == list(SETTING_CHECKS)
    for name, row in schema["properties"].items():
        assert row["description"], name
        assert "default" not in row or row["default"] == defaults[name], name
        assert "default" in row or name in ("datasets", "tokenizer") or defaults[name] is None, name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_recipes_of_the_repository_are_linked_to_it_and_right(checker, config):
    text = config.read_text(encoding="utf-8")
    assert (config.parent / LINK.match(text)[1]).resolve() == ROOT / "src" / "cook" / "recipe.schema.json"
    checker.validate(yaml.safe_load(text))


VALUES = [
    "all-train",
    *(
        "x",
        "",
        "none",
        "all",
        "best-fit",
        "wrap",
        "split",
        "fail",
        "hf",
        "dask",
        "tokens",
        "s3://bucket/x",
        "all-train",
    ),
    *("{context}", "{question} {answer}", "{question}", 0, 1, 2, -1, 0.5, 1.5, 1024, 1025, 2**24, 2**24 + 1, 2**31),
    *(2**63, 2**64 - 1, 2**64, True, False, None, [], ["squad"], [1], [""], {}, {"context": "c"}, {"context": ""}),
    *({"other": "c"}, {"context": 1}),
]
OTHER_SETTINGS_DECIDE = ("revision", "executor", "scheduler", "scheduler_file", "tls_ca", "tls_cert", "tls_key")


@pytest.mark.parametrize("name", [name for name in SETTING_CHECKS if name not in OTHER_SETTINGS_DECIDE])
def test_it_admits_what_cook_admits(checker, name):
    for value in VALUES:
        if (name, value) == ("bos", None):  # which a file may not say, see read_config
            continue
        try:
            Recipe(**({"datasets": ("all",), "tokenizer": "llama3"} | {name: value}))
            admitted = True
        except RecipeError:
            admitted = False
        assert checker.is_valid({name: value}) == admitted, (name, value)


def test_an_unknown_setting_is_refused(checker):
    assert not checker.is_valid({"max_lenght": 4})
