"""scripts/grow_collection.py: a collection of any size out of few shards, for benchmarks."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from cook.core.recipe import Recipe
from cook.pipeline.runner import run
from cook.read.sources import open_source

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "grow_collection.py"
SIZE = 400_000  # four times the sample


def load_script():
    spec = importlib.util.spec_from_file_location("grow_collection", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def grow(source, target, *options):
    script.main([str(source), str(target), *options])
    return target


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows(root, name):
    shards = sorted((root / name / "shard").iterdir())
    return [orjson.loads(line) for shard in shards for line in shard.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    return grow("sample", tmp_path_factory.mktemp("grown") / "target", "--size", f"{SIZE}", "--shard-size", "50KB")


def test_size_layout_and_shares(grown):
    source = open_source("sample")
    made = files(grown)
    total = sum(map(len, made.values()))
    assert abs(total - SIZE) <= SIZE / 100
    assert open_source(str(grown)).names() == source.names()
    in_source = {name: sum(shard.size for shard in source.shards(name)) for name in source.names()}
    for name, size in in_source.items():
        shards = [path for path in made if path.startswith(f"{name}/")]
        assert len(shards) > 1
        assert shards == [f"{name}/shard/{index:05}.jsonl" for index in range(len(shards))]
        assert all(len(made[path]) <= 50_000 for path in shards)
        share = size / sum(in_source.values())
        assert sum(len(made[path]) for path in shards) == pytest.approx(share * SIZE, rel=0.05)


def test_entries_are_distinct_and_shaped_as_in_the_source(grown):
    source = open_source("sample")
    lines = b"".join(files(grown).values()).splitlines()
    assert len(set(lines)) == len(lines)
    for name in source.names():
        old, new = rows(source.root, name), rows(grown, name)
        for measure in (lambda row: len(row["context"]), lambda row: len(row["QA_list"])):
            before, after = (sum(map(measure, some)) / len(some) for some in (old, new))
            assert after == pytest.approx(before, rel=0.03)
        for key in ("Q", "A"):
            known = {pair[key] for row in old for pair in row["QA_list"]}
            assert all(pair[key] in known for row in new for pair in row["QA_list"])


def test_a_table_keeps_its_header_and_gets_rows_of_its_width(grown):
    contexts = [row["context"] for row in rows(open_source("sample").root, "WikiTableQuestions")]
    openings = {context[: context.index("\n", context.index(" | "))] for context in contexts}
    known = {line for context in contexts for line in context.split("\n")}
    for row in rows(grown, "WikiTableQuestions"):
        opening = next(opening for opening in openings if row["context"].startswith(opening + "\n"))
        new = row["context"][len(opening) + 1 :].split("\n")
        assert known.issuperset(new)
        assert {line.count(" | ") for line in new} == {opening.split("\n")[-1].count(" | ")}


def test_same_arguments_same_bytes_in_another_process(grown, tmp_path):
    command = [sys.executable, SCRIPT, "sample", tmp_path / "again", "--size", f"{SIZE}", "--shard-size", "50KB"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert files(tmp_path / "again") == files(grown)
    other = grow("sample", tmp_path / "other", "--size", f"{SIZE}", "--shard-size", "50KB", "--seed", "1")
    assert files(other) != files(grown)


def write_source(folder, entries):
    shard = folder / "tiny" / "shard" / "00000.jsonl"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"".join(script.encode(context, pairs) for context, pairs in entries))
    return folder


def test_bytes_do_not_depend_on_machine_or_version(tmp_path):
    source = write_source(
        tmp_path / "source",
        [
            ("It rained. Was it cold? “Yes.” Nobody came!\nSo it ended…", [("Was it cold?", "yes"), ("Who came?", "")]),
            ("雨が降った。寒かった。", [("寒かった？", "はい")]),
            ("Results\nPlace | Name\n1 | Ann\n2 | Bo\n3 | Cy", [("Who won?", "Ann"), ("Who was last?", "Cy")]),
        ],
    )
    made = files(grow(source, tmp_path / "target", "--size", "20KB"))
    assert list(made) == ["tiny/shard/00000.jsonl"]
    digest = hashlib.sha256(made["tiny/shard/00000.jsonl"]).hexdigest()
    assert digest == "8ae351f6f5c240003e77556903cd97117f2e17a560879a1a0afbcfe2764473ea"


def test_cook_reads_it(grown, tmp_path):
    summary = run(
        Recipe(datasets="all", tokenizer="llama3", source=str(grown), output=str(tmp_path), max_dropped=1.0, jobs=1)
    )
    assert {result.name for result in summary.results} == set(open_source("sample").names())
    for result in summary.results:
        assert result.counts["entries"] == len(rows(grown, result.name))


def test_a_target_that_is_not_empty_is_refused_and_left_alone(tmp_path, capsys):
    target = grow("sample", tmp_path / "target", "--size", "50KB")
    before = files(target)
    with pytest.raises(SystemExit):
        grow("sample", target, "--size", "100KB")
    assert "pass --overwrite" in capsys.readouterr().err
    assert files(target) == before
    grow("sample", target, "--size", "100KB", "--dataset", "squad", "--overwrite")
    assert sum(map(len, files(target).values())) == pytest.approx(100_000, rel=0.01)
    assert os.listdir(target) == ["squad"]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        grow("sample", target, "--size", "100KB", "--overwrite")
    assert "notes.txt: is no dataset" in capsys.readouterr().err
    assert (target / "notes.txt").exists()
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", ("--size", "1MB"), "nowhere: no such folder"),
        ("sample", ("--size", "0"), "'0' is no size"),
        ("sample", ("--size", "12XB"), "'12XB' is no size"),
        ("sample", ("--size", "1KB"), "--size 1,000: with whole entries it came to"),
        ("sample", ("--size", "1MB", "--dataset", "squat"), "did you mean squad?"),
    ],
)
def test_what_is_wrong_is_said(source, options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        grow(source, tmp_path / "target", *options)
    assert stopped.value.code in {1, 2, 3}
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_source_that_cannot_give_so_many_distinct_entries_is_refused(tmp_path, capsys):
    source = write_source(tmp_path / "source", [("One sentence.", [("Why?", "So.")])])
    with pytest.raises(SystemExit):
        grow(source, tmp_path / "target", "--size", "1MB")
    assert "tiny: no more than 63 bytes of distinct entries come of it" in capsys.readouterr().err
