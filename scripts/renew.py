"""Write anew what is made from the code and committed.

    python scripts/renew.py cli             docs/cli.md, from `--help`
    python scripts/renew.py fingerprints    tests/data/fingerprints: when other ids, masks or borders are meant
    python scripts/renew.py golden          tests/data/golden, by the reference: when entries are added
    python scripts/renew.py schema          src/cook/recipe.schema.json, from the settings of a recipe
    python scripts/renew.py probe           the engines' probe.json, merges.npz: when probe texts or presets change

A test holds each file to the code. The reference engine is Hugging Face tokenizers on a model's `tokenizer.json`.
"""

import argparse
import ast
import dataclasses
import inspect
import sys
import tempfile
import typing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tokenizers
from click.testing import CliRunner

import cook
from cook.cli.app import COMMANDS, main
from cook.core.choices import PACKINGS
from cook.core.recipe import Fields, Recipe
from cook.tokenizer.engines import bundled, probe
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"


def cli_page() -> str:
    """The text of docs/cli.md."""
    parts = ["# Command line\n\nMade from `--help` by `scripts/renew.py cli`.\n"]
    for words in ([], ["cluster"], *([name] for name in COMMANDS), ["cache", "info"], ["cache", "clear"]):
        help_text = CliRunner().invoke(main, ["help", *words], prog_name="cook", terminal_width=100).stdout
        title = " ".join(["cook", *(["help"] if words == ["cluster"] else []), *words])
        parts.append(f"## {title}\n\n```text\n{help_text.rstrip()}\n```\n")
    return "\n".join(parts)


def cli() -> None:
    """Write docs/cli.md."""
    (ROOT / "docs" / "cli.md").write_text(cli_page(), encoding="utf-8")


SCHEMA_FILE = Path(cook.__file__).parent / "recipe.schema.json"
TEXT, NO_URL = {"type": "string", "minLength": 1}, {"not": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9+.-]+://"}}
BOUNDS = {  # of settings that are more than a type and choices; a test holds them against the recipe's own checks
    "datasets": {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]},
    "fields": {
        "type": "object",
        "properties": {name: TEXT | {"default": key} for name, key in Fields()._asdict().items()},
        "additionalProperties": False,
    },
    "output": NO_URL,
    "cache": NO_URL,
    "max_length": {"minimum": 2, "maximum": 2**24},
    "packing": {"enum": list(PACKINGS)},
    "max_dropped": {"minimum": 0, "maximum": 1},
    "max_unknown": {"minimum": 0, "maximum": 1},
    "seed": {"minimum": 0, "maximum": 2**64 - 1},
    "bos": {"type": "string", "minLength": 0},
    "eos": {"not": {"const": "none"}},
    "context_template": {"pattern": r"\{context\}"},
    "pair_template": {"allOf": [{"pattern": r"\{question\}"}, {"pattern": r"\{answer\}"}]},
    "delimiter": {"minLength": 0},
    "validation": {
        "anyOf": [
            {"type": "null"},
            {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        ]
    },
    "limit": {"minimum": 1, "maximum": 2**31 - 1},
    "jobs": {"minimum": 1, "maximum": 1024},
}
JSON_TYPES = {int: "integer", float: "number", bool: "boolean", type(None): "null"}


def recipe_schema() -> bytes:
    """The JSON Schema of a recipe's file: what each setting may be, its default, and what it does."""
    [class_] = ast.parse(inspect.getsource(Recipe)).body
    said, name = {}, ""
    for node in typing.cast("ast.ClassDef", class_).body:
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
        elif isinstance(node, ast.Expr) and name:
            said[name] = " ".join(ast.literal_eval(node.value).split()).replace("None: ", "Default: ")
    hints, properties = typing.get_type_hints(Recipe), {}
    for field in dataclasses.fields(Recipe):
        row = {"description": said[field.name]} | _schema_of(hints[field.name]) | BOUNDS.get(field.name, {})
        if "anyOf" in row or field.name == "fields":  # which say more than the type does
            row.pop("minLength", None)
        if "anyOf" in row:
            row.pop("type", None)
        if field.default not in (dataclasses.MISSING, None):
            row["default"] = field.default._asdict() if field.name == "fields" else field.default
        properties[field.name] = row
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe for cook --config",
        "description": "Made from cook.Recipe by `scripts/renew.py schema`. Options of the command win over it.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _schema_of(hint: Any) -> dict[str, Any]:
    """The schema of a setting's type."""
    if typing.get_origin(hint) is typing.Literal:
        return {"enum": list(typing.get_args(hint))}
    kinds = typing.get_args(hint) or (hint,)
    types = [JSON_TYPES.get(kind, "string") for kind in kinds]
    made: dict[str, Any] = {"type": types if len(types) > 1 else types[0]}
    return made | ({"minLength": 1} if "string" in types else {})


def schema() -> None:
    """Write recipe.schema.json."""
    SCHEMA_FILE.write_bytes(recipe_schema())


def fingerprints() -> None:
    """Cook the sample once a packing, and write `cook fingerprint` of each."""
    for packing in PACKINGS:
        with tempfile.TemporaryDirectory() as folder:
            cook.run(cook.Recipe(datasets="all", tokenizer="llama3", source="sample", packing=packing, output=folder))
            made = orjson.dumps(cook.fingerprint(folder), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        path = DATA / "fingerprints" / f"{packing}.json"
        print(f"{path}: {'as before' if path.exists() and path.read_bytes() == made else 'changed'}")
        path.write_bytes(made)


def golden() -> None:
    """Write the ids of the entries in entries.jsonl, a file a model. A change to an older line means a fault."""
    sys.path.insert(0, str(ROOT / "tests"))
    from reference import MODELS, model_json

    entries = [orjson.loads(line) for line in (DATA / "golden" / "entries.jsonl").read_bytes().splitlines()]
    for name, model in MODELS.items():
        tokenizer = tokenizers.Tokenizer.from_str(model_json(name).decode())
        tokenizer.encode_special_tokens = True
        rows = []
        for entry in entries:
            context = " <CON> " + entry["context"] + " </CON>\n\n"
            pairs = "\n\n".join("<QUE> " + pair["Q"] + " <ANS> " + pair["A"] + " </END>" for pair in entry["QA_list"])
            inputs, outputs = (tokenizer.encode(text, add_special_tokens=False).ids for text in (context, pairs))
            rows.append(
                {"case": entry["case"], "input_ids": model.bos_ids + inputs, "output_ids": [*outputs, model.eos_id]}
            )
        (DATA / "golden" / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        print(f"{name}: {len(rows)} entries")


def probe_files() -> None:
    """Write the ids of the probe texts for each preset, and where each token's last merge joins (`engines.bundled`)."""
    ids, merges = {}, {}
    for name, preset in PRESETS.items():
        if bundled.vocabulary_fingerprint(preset) != preset.fingerprint:
            raise SystemExit(f"{name}: the fingerprint in the code is not that of the bundled vocabulary")
        document = bundled.tokenizer_json(preset)
        ids[name] = probe.probe_ids(HfEngine(document))
        merges[name] = bundled.final_merge_positions(orjson.loads(document))
    folder = Path(probe.__file__).parent
    (folder / "probe.json").write_bytes(orjson.dumps(ids) + b"\n")
    np.savez_compressed(folder / "merges.npz", **merges)
    print(f"{folder}: {sum(len(rows) for rows in ids.values())} texts")


WHAT = {"cli": cli, "fingerprints": fingerprints, "golden": golden, "probe": probe_files, "schema": schema}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    WHAT[parser.parse_args().what]()
