"""Every command against every kind of result, and against one of format 1: it is read, or refused in a line that says
what the folder is and what to do."""

import shutil

import orjson
import pytest

from conftest import entry, pair, write_shard
from cook import CorpusRecipe, Recipe, export, make_corpus, mix, parse, prompts, run
from cook.check.fingerprints import FINGERPRINT_FUNCTIONS
from cook.check.verifier import CHECK_BY_KIND
from cook.store import kinds, manifest

ROWS = [entry(f"Mill {n} grinds rye.", pair(f"What does mill {n} grind?", "Rye.")) for n in range(6)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A result of each kind, by the kind's name, and the folder of its ROOT."""
    root = tmp_path_factory.mktemp("matrix")
    write_shard(root / "in", "x", ROWS)
    source = {"source": str(root / "in"), "cache": "none"}
    run(Recipe(datasets="x", tokenizer="llama3", output=str(root / "cooked"), **source))
    make_corpus(CorpusRecipe(tokenizer="llama3", output=str(root / "packed"), max_length=64, **source))
    make_corpus(CorpusRecipe(output=str(root / "text"), **source))
    mix(root / "cooked", root / "mixed")
    export(root / "cooked" / "x", "trl", root / "exported")
    (root / "raw.jsonl").write_bytes(b"".join(orjson.dumps({"text": f"Text {n}."}) + b"\n" for n in range(4)))
    prompts(root / "raw.jsonl", root / "p.jsonl", tokenizer="llama3", cache="none")
    ids = [orjson.loads(line)["custom_id"] for line in (root / "p.jsonl").read_bytes().splitlines()]
    answers = [{"custom_id": each, "text": "<QUE> What? <ANS> That. </END>"} for each in ids]
    (root / "a.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in answers))
    parse(root / "a.jsonl", root / "pairs" / "new", prompts=root / "p.jsonl")
    found = {
        kinds.DATASET: root / "cooked" / "x",
        kinds.PACKED: root / "packed" / "x",
        kinds.MIX: root / "mixed",
        kinds.CORPUS: root / "text" / "x",
        kinds.EXPORT: root / "exported",
        kinds.PROMPTS: root / "p.jsonl.cook",
        kinds.PARSE: root / "pairs" / "new",
    }
    assert found.keys() == kinds.KINDS.keys(), "a new kind needs its result here"
    assert {name: manifest.read_manifest(folder)["kind"] for name, folder in found.items()} == {
        name: name for name in found
    }
    return found


def asked(command, folder, out):
    """The arguments of a command that reads a result."""
    return {
        "verify": ["verify", folder],
        "diff": ["diff", folder, folder],
        "fingerprint": ["fingerprint", folder],
        "show": ["show", folder],
        "report": ["report", folder, "--to", out / "page.html"],
        "export": ["export", folder, "--for", "jsonl", "--to", out / "exported"],
        "mix": ["mix", folder.parent, "--to", out / "mixed"],
    }[command]


COMMANDS = ("verify", "diff", "fingerprint", "show", "report", "export", "mix")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_command_reads_a_kind_or_says_what_it_is(cook, results, tmp_path, kind, command):
    folder = tmp_path / "root" / results[kind].name
    shutil.copytree(results[kind], folder)
    if kind == kinds.PROMPTS:
        shutil.copy(results[kind].with_suffix(""), folder.with_suffix(""))
    done = cook(*map(str, asked(command, folder, tmp_path)))
    reads = command in kinds.KINDS[kind].readers
    assert done.exit_code == (0 if reads else 2 if command == "export" else 1), done.output
    if not reads and command != "mix":
        assert f"{folder}: is {kinds.KINDS[kind].noun}, " in done.stderr
        assert kinds.KINDS[kind].use_instead in done.stderr
        assert done.stderr.count("\n") == 1
    if not reads and command == "mix":
        assert "holds no cooked dataset" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_result_of_format_1_is_named_as_such(cook, results, tmp_path, command):
    folder = tmp_path / "root" / "x"
    shutil.copytree(results[kinds.DATASET], folder)
    fields = manifest.read_manifest(folder) | {"format_version": 1}
    (folder / manifest.MANIFEST_NAME).write_bytes(manifest.seal(fields))
    done = cook(*map(str, asked(command, folder, tmp_path)))
    assert done.exit_code == 1
    assert (
        f"{folder / manifest.MANIFEST_NAME}: is of format version 1, and this cook reads 2: make it again"
        in done.stderr
    )


def test_a_result_of_format_1_is_replaced_when_asked(cook, results, tmp_path):
    folder, source = tmp_path / "root" / "x", results[kinds.DATASET].parents[1] / "in"
    shutil.copytree(results[kinds.DATASET], folder)
    old = {
        key: value for key, value in manifest.read_manifest(folder).items() if key not in ("kind", "shape", "mask_rule")
    }
    (folder / manifest.MANIFEST_NAME).write_bytes(manifest.seal(old | {"format_version": 1}))
    again = ["-d", "x", "-t", "llama3", "-s", source, "-o", folder.parent, "--no-cache"]
    done = cook(*map(str, again))
    assert done.exit_code == 5
    assert "is of format version 1" in done.stderr
    assert manifest.read_sealed(folder)["format_version"] == 1, "nothing is touched"
    assert cook(*map(str, [*again, "--overwrite"])).exit_code == 0
    assert manifest.read_manifest(folder)["format_version"] == 2


@pytest.mark.parametrize(("table", "command"), [(CHECK_BY_KIND, "verify"), (FINGERPRINT_FUNCTIONS, "fingerprint")])
def test_functions_by_kind_are_those_of_the_kinds_that_are_read(table, command):
    assert table.keys() == kinds.kinds_read_by(command)
