"""Progress of each command: all that is said to be ahead is done in the end, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import cook
from conftest import Told
from cook import Recipe, run
from cook.corpora.recipe import CorpusRecipe

SIZE = sum(path.stat().st_size for path in (Path(cook.__file__).parent / "sample").rglob("*.jsonl"))


def recipe(tmp_path: Path, **more: object) -> Recipe:
    return Recipe(datasets="all", tokenizer="llama3", source="sample", output=str(tmp_path / "out"), **more)


@pytest.mark.parametrize("jobs", [1, 2])
def test_cooking(tmp_path, jobs):
    told = Told()
    made = run(recipe(tmp_path, jobs=jobs, validation=0.2), told)
    tokens = sum(result.manifest["counts"]["tokens"] for result in made.results)
    assert told.stages() == {"tokenize": SIZE, "gather": tokens}
    again = Told()
    run(recipe(tmp_path, jobs=jobs, validation=0.2), again)
    assert again.stages() == {"tokenize": SIZE}


def test_a_limit_has_no_end_that_is_known(tmp_path):
    told = Told()
    run(recipe(tmp_path, limit=3), told)
    assert 0 < told.done["tokenize"] < SIZE
    assert told.ahead["tokenize"] == 0


def test_what_is_made_of_the_cooked(tmp_path):
    pytest.importorskip("jinja2", reason="Jinja is not installed: pip install '.[report]'")
    made = run(recipe(tmp_path))
    tokens = {result.name: result.manifest["counts"]["tokens"] for result in made.results}
    told = Told()
    mixed = cook.mix(made.root, tmp_path / "mixed", weights={"squad": 2, "race": 0}, progress=told)
    wanted = sum(count for name, count in tokens.items() if name != "race")
    assert told.stages() == {"unpack": wanted, "gather": wanted + tokens["squad"]}
    told = Told()
    cook.export(mixed.folder, "jsonl", tmp_path / "exported", progress=told)
    assert told.stages() == {"export": wanted + tokens["squad"]}
    told = Told()
    cook.report(made.root, tmp_path / "report.html", progress=told)
    assert told.stages() == {"count": sum(tokens.values())}


def test_corpora(tmp_path):
    told = Told()
    cook.make_corpus(CorpusRecipe(source="sample", output=str(tmp_path / "text")), told)
    assert told.stages() == {"render": SIZE}
    told = Told()
    cook.make_corpus(CorpusRecipe(source="sample", output=str(tmp_path / "packed"), tokenizer="llama3"), told)
    assert set(told.stages()) == {"tokenize", "gather"}
