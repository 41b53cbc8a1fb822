"""docs/paper.md runs as it stands: every command, in one folder, with a stand-in for vLLM that answers over HTTP."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from cook import read_cooked
from docs.test_pages import ROOT, blocks
from servers import stand_in_server

PAGE = ROOT / "docs" / "paper.md"
TEXTS = 6  # that the page writes


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The folder of someone who has followed the page."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", checkout / "configs")
    folder = checkout / "try" / "paper"
    folder.mkdir(parents=True)
    stand_in_server.install(folder / "bin", sys.executable)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    cache = str(tmp_path_factory.getbasetemp() / "cook-cache")
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "COOK_CACHE": cache}
    for block in blocks(PAGE):
        if block.language == "mermaid":
            continue
        command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
        done = subprocess.run(
            [*command, block.text],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
    return folder


def lines(path):
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def rows(folder):
    return [row for path in sorted(folder.glob("shard/*.jsonl")) for row in lines(path)]


def test_every_text_comes_back_as_an_entry_in_its_chain(reader):
    raw = [row["text"] for row in lines(reader / "texts" / "harbour.jsonl")]
    raw.append((reader / "texts" / "mortar.txt").read_text().rstrip("\n"))
    assert len(raw) == TEXTS
    made = rows(reader / "pairs" / "round-2")
    assert [(row["chain"], row["context"]) for row in made] == [
        (0, raw[0]), (0, raw[3]), (1, raw[1]), (1, raw[4]), (2, raw[2]), (2, raw[5]),
    ]  # fmt: skip
    assert any(row["inherit_from_prev"] for row in made), "no worked example was used, so the page shows none"
    for before, after in zip(made[::2], made[1::2], strict=True):
        assert not before["inherit_from_prev"]
        assert before["followed_by_next"] == bool(before["QA_list"])
        assert after["inherit_from_prev"] == (before["followed_by_next"] and bool(after["QA_list"]))


def test_the_pairs_are_those_of_the_answers(reader):
    for row in rows(reader / "pairs" / "round-2"):
        for pair in row["QA_list"]:
            assert pair["A"] in row["context"].split()


def test_what_failed_was_asked_again(reader):
    counts = read_cooked(reader / "pairs" / "round-1").manifest["counts"]
    assert (counts["answers"], counts["failed"], counts["missing"]) == (3, 0, 0)
    first = lines(reader / "answers" / "round-1.jsonl")
    assert [bool(row["error"]) for row in first].count(True) == 1, "nothing failed, so this test sees nothing"


def test_chains_of_the_rounds_are_joined_texts(reader):
    """What `cook parse` says of who goes on with whom is what `cook corpus` joins."""
    expected: list[list[str]] = []
    for row in rows(reader / "pairs" / "round-2"):
        if row["inherit_from_prev"]:
            expected[-1].append(row["context"])
        else:
            expected.append([row["context"]])
    made = lines(reader / "corpora" / "text" / "round-2" / "train-00000-of-00001.jsonl")
    assert [row["entries"] for row in made] == [len(contexts) for contexts in expected]
    assert max(row["entries"] for row in made) == 2, "no chain was made, so this test sees nothing"
    for row, contexts in zip(made, expected, strict=True):
        places = [row["text"].find(context) for context in contexts]
        assert places == sorted(places)
        assert places[0] >= 0
    counts = read_cooked(reader / "corpora" / "text" / "round-2").manifest["counts"]
    assert counts["texts"] == len(expected)
    assert counts["chains"]["entries"] == sum(len(contexts) for contexts in expected if len(contexts) > 1)
    assert read_cooked(reader / "corpora" / "packed" / "round-2").manifest["counts"]["chains"] == counts["chains"]


def test_the_pairs_are_cooked(reader):
    made = read_cooked(reader / "cooked" / "pairs" / "round-2").manifest["counts"]
    found = rows(reader / "pairs" / "round-2")
    assert made["pairs"] == sum(len(row["QA_list"]) for row in found) > 0
    assert made["entries"] == len(found)
