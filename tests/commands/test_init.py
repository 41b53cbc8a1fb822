"""cook init: the recipe that it writes is right, says what was found, and runs."""

import importlib.resources
import shutil

import orjson
import pyarrow.parquet as pq
import pytest
import yaml

from conftest import entry, write_shard
from cook import read_config


@pytest.fixture
def data(tmp_path):
    shutil.copytree(importlib.resources.files("cook") / "sample", tmp_path / "data")
    return tmp_path / "data"


def test_the_recipe_runs_as_it_stands(cook, data, tmp_path):
    (data / "race" / "shard" / "00001.jsonl").rename(data / "race" / "shard" / "dev.jsonl")
    done = cook("init", "data")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "recipe.yaml").read_text()
    size = sum(path.stat().st_size for path in data.rglob("*.jsonl"))
    assert f"# Found: datasets: 3, shards: 6, bytes: {size:,}.\n" in text
    assert "bytes; shards by split: train 1, validation 1\n" in text
    assert "Shards named for validation go to it" in text
    assert read_config(tmp_path / "recipe.yaml")["datasets"] == ["WikiTableQuestions", "race", "squad"]
    assert cook("--config", "recipe.yaml", "-q").exit_code == 0
    assert pq.read_table(tmp_path / "cooked" / "llama3" / "race" / "validation-00000-of-00001.parquet").num_rows


def test_the_settings_in_comments_are_right_too(cook, data, tmp_path):
    cook("init", "data")
    lines = (tmp_path / "recipe.yaml").read_text().splitlines()
    on = [line.removeprefix("# ") if ": " in line and line[2:].split(":")[0].isidentifier() else line for line in lines]
    chosen = [line for line in on if not line.startswith(("Tokenizer", "Found", "Keys"))]
    chosen = [line.replace("validation: 0.01", "validation: 0.5") for line in chosen if "yaml-language" not in line]
    (tmp_path / "all.yaml").write_text("\n".join(chosen))
    settings = read_config(tmp_path / "all.yaml")
    assert {"output", "validation", "dedup", "fields"} <= settings.keys()
    assert cook("--config", "all.yaml", "-q").exit_code == 0


def test_other_keys_are_told_by_the_first_line(cook, tmp_path):
    row = {"id": "1", "passage": "A long passage.", "qa": [{"question": "Q?", "answer": "A."}]}
    (tmp_path / "in" / "set").mkdir(parents=True)
    (tmp_path / "in" / "set" / "0.jsonl").write_bytes(orjson.dumps(row))
    cook("init", "in", "-o", "mine.yaml")
    fields = yaml.safe_load((tmp_path / "mine.yaml").read_text())["fields"]
    assert fields == {"context": "passage", "pairs": "qa", "question": "question", "answer": "answer"}
    assert cook("--config", "mine.yaml", "-q").exit_code == 0


def test_a_file_that_is_there_stays(cook, data, tmp_path):
    (tmp_path / "recipe.yaml").write_text("mine")
    done = cook("init", "data")
    assert (done.exit_code, (tmp_path / "recipe.yaml").read_text()) == (5, "mine")
    assert "recipe.yaml: is there already" in done.stderr
    assert cook("init", "data", "--overwrite").exit_code == 0
    assert "datasets:" in (tmp_path / "recipe.yaml").read_text()


def test_what_cannot_be_cooked_is_left_out_and_named(cook, tmp_path):
    write_shard(tmp_path / "in", "good", [entry()])
    write_shard(tmp_path / "in", "odd", [entry()])
    (tmp_path / "in" / "odd" / "shard" / "more.csv").write_text("a,b")
    done = cook("init", "in")
    assert read_config(tmp_path / "recipe.yaml")["datasets"] == ["good"]
    assert "#   odd: left out: odd/shard/more.csv: is a table" in (tmp_path / "recipe.yaml").read_text()
    assert "left out, with the reason in recipe.yaml: odd" in done.stderr
    (tmp_path / "empty").mkdir()
    assert cook("init", "empty", "-o", "e.yaml").exit_code == 1
    assert not (tmp_path / "e.yaml").exists()


def test_a_name_cannot_end_a_comment(cook, tmp_path):
    folder = "in\nseed: 7 #"
    write_shard(tmp_path / folder, "set", [entry()])
    assert cook("init", folder).exit_code == 0
    settings = read_config(tmp_path / "recipe.yaml")
    assert "seed" not in settings
    assert settings["source"] == folder
