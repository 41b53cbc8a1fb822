"""The published recipe, written here plainly, gives the same sequences: every token, label and boundary.

Formatting is by the published templates and `str.replace`, tokens by Hugging Face tokenizers on the whole string with
BOS and EOS in it, examples joined in order. The bundled sample holds no special strings, so that parsing BOS and EOS
from the string, as the recipe does, and putting their ids in, as cook does, must agree.
"""

from importlib import resources
from pathlib import Path

import datasets
import orjson
import pytest
import tokenizers

from conftest import COLLECTION, needs_collection
from cook import Recipe, read_cooked, run
from cook.store.columns import SEQUENCE_COLUMNS
from cook.tokenizer.presets import PRESETS
from reference import MODELS, model_json

SAMPLE = Path(str(resources.files("cook") / "sample"))


def published(collection: Path, name: str, model: str, max_length: int) -> list[dict[str, list[int]]]:
    tokenizer = tokenizers.Tokenizer.from_str(model_json(model).decode())
    bos, eos = MODELS[model].bos or "", MODELS[model].eos
    packed: list[dict[str, list[int]]] = []
    for shard, path in enumerate(sorted((collection / name / "shard").glob("*.jsonl"))):
        for line, text in enumerate(path.read_bytes().splitlines(), 1):
            row = orjson.loads(text)
            source = bos + " <CON> {context} </CON>".replace("{context}", row["context"]) + "\n\n"
            target = "\n\n".join(
                "<QUE> {question} <ANS> {answer} </END>".replace("{question}", pair["Q"]).replace("{answer}", pair["A"])
                for pair in row["QA_list"]
            )
            inputs = tokenizer.encode(source, add_special_tokens=False).ids
            outputs = tokenizer.encode(target + eos, add_special_tokens=False).ids
            length = len(inputs) + len(outputs)
            if not packed or len(packed[-1]["input_ids"]) + length > max_length:
                keys = ("input_ids", "labels", "loss_mask", "seq_lengths", "source_shard", "source_line")
                packed.append({key: [] for key in keys})
            packed[-1]["input_ids"] += inputs + outputs
            packed[-1]["labels"] += [-100] * len(inputs) + outputs
            packed[-1]["loss_mask"] += [0] * len(inputs) + [1] * len(outputs)
            packed[-1]["seq_lengths"].append(length)
            packed[-1]["source_shard"].append(shard)
            packed[-1]["source_line"].append(line)
    return packed


@pytest.mark.parametrize("model", MODELS)
def test_the_sample_is_cooked_as_published(model, models, tmp_path):
    tokenizer = model if model in PRESETS else str(models[model])
    recipe = Recipe(
        datasets="all", tokenizer=tokenizer, source="sample", packing="in-order", output=tmp_path, max_length=2048
    )
    summary = run(recipe)
    assert [result.name for result in summary.results] == ["WikiTableQuestions", "race", "squad"]
    for result in summary.results:
        rows = [
            {key: getattr(row, key).tolist() for key in SEQUENCE_COLUMNS}
            for row in read_cooked(result.folder).sequences()
        ]
        assert rows == published(SAMPLE, result.name, model, 2048)
        loaded = datasets.load_dataset(str(tmp_path), result.name, split="train", cache_dir=str(tmp_path / "hf"))
        assert loaded.to_list() == rows


@needs_collection
def test_real_shards_are_cooked_as_published(tmp_path):
    names = ("squad", "AQUA_RAT_yes_opt")  # every example of these fits
    run(Recipe(datasets=names, tokenizer="llama3", source=COLLECTION, packing="in-order", output=tmp_path))
    for name in names:
        found = read_cooked(tmp_path / name).sequences()
        rows = [{key: getattr(row, key).tolist() for key in SEQUENCE_COLUMNS} for row in found]
        assert rows == published(COLLECTION, name, "llama3", 4096)
