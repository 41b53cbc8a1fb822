"""Any trained runs come back as they were: spool, Parquet, reader, mix and each export; and verify knows the rule."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cook import Recipe, export, mix, read_cooked, verify
from cook.core.errors import Problem
from cook.core.progress import no_progress
from cook.pipeline import runner
from cook.pipeline.context import EncodingStrategy
from cook.shapes import registry
from cook.shapes.protocol import Segments
from cook.shapes.text import TextShape
from cook.tokenizer.loading import load_engine, resolve_tokenizer
from cook.trainers.exporter import TARGETS
from faults.injecting import Bench

RECIPE = Recipe(datasets="set", tokenizer="llama3", max_length=400, packing="best-fit", cache="none")
TOKENIZER = resolve_tokenizer(RECIPE)
EOS = TOKENIZER.eos_id
NAME = "train-00000-of-00001.parquet"


class Turns(NamedTuple):
    line: int
    start: int
    texts: list[str]
    trained: list[bool]
    units: int = 1
    left_out: tuple[()] = ()


class Runs(TextShape):
    """BOS, texts each trained or not, EOS, which is trained."""

    def parse(self, path, line, start, row):
        if not isinstance(row, dict) or "turns" not in row:
            return [Problem(path, line, "turns", "is missing")]
        return Turns(line, start, *map(list, zip(*row["turns"], strict=True)))

    def segments(self, records):
        bos, eos = (np.array([i], np.uint32) for i in (TOKENIZER.bos_id, EOS))
        fixed = [part for record in records for part in (bos, *[None] * len(record.texts), eos)]
        trained = [flag for record in records for flag in (False, *record.trained, True)]
        counts = np.array([len(record.texts) + 2 for record in records])
        return Segments([text for record in records for text in record.texts], fixed, trained, counts)

    def texts(self, record):
        return record.texts


@pytest.fixture(autouse=True, scope="module")
def _registered():
    with pytest.MonkeyPatch.context() as patch:
        made = lambda recipe, tokenizer: Runs(recipe, tokenizer, name="runs", mask_rule="runs")  # noqa: E731
        patch.setitem(registry.SHAPES, "runs", made)
        yield


def cook_runs(rows, root: Path) -> Path:
    (root / "in" / "set" / "shard").mkdir(parents=True)
    (root / "in" / "set" / "shard" / "00000.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    strategy = EncodingStrategy(shape="runs", uses_cache=False)
    recipe = Recipe(**RECIPE.as_dict() | {"source": str(root / "in"), "output": str(root / "out")})
    (done,) = runner.run_datasets(
        recipe, no_progress, lambda means: runner.sequence_runner(means, strategy=strategy)
    ).results
    return done.folder


def expected_of(rows) -> dict[int, tuple[list[int], list[int]]]:
    """By line, ids and mask, from the engine alone."""
    found = {}
    for line, row in enumerate(rows, 1):
        ids, mask = [TOKENIZER.bos_id], [0]
        for text, trained in row["turns"]:
            mine = load_engine(TOKENIZER).encode([text])[0].tolist()
            ids += mine
            mask += [int(trained)] * len(mine)
        found[line] = [*ids, EOS], [*mask, 1]
    return found


def examples(folder: Path) -> dict[int, tuple[list[int], list[int]]]:
    """By line, ids and mask of what is cooked; the labels agree."""
    found = {}
    for row in read_cooked(folder).sequences():
        bounds = itertools.pairwise([0, *np.cumsum(row.seq_lengths).tolist()])
        for line, (begin, end) in zip(row.source_line.tolist(), bounds, strict=True):
            ids, mask, labels = (each[begin:end].tolist() for each in (row.input_ids, row.loss_mask, row.labels))
            assert labels == [i if bit else -100 for i, bit in zip(ids, mask, strict=True)]
            found[line] = ids, mask
    return found


def exported(target: str, folder: Path) -> list[tuple[list[int], list[int]]]:
    """Ids and mask of an export, in its order, without pads: by example, or by sequence."""
    if target == "olmo-core":
        kind = np.uint32
        (ids,) = (np.fromfile(path, kind).tolist() for path in folder.glob("token_ids_part_*.npy"))
        (mask,) = (np.fromfile(path, np.int8).tolist() for path in folder.glob("labels_mask_part_*.npy"))
        return [(ids, mask)]
    if target == "llama-factory":
        with pa.ipc.open_stream(folder / "train" / "data-00000-of-00001.arrow") as file:
            table = file.read_all().to_pydict()
        sizes = [sum(map(bool, mask)) for mask in table["attention_mask"]]
    else:
        (path,) = folder.glob("*.parquet")
        table = pq.read_table(path).to_pydict()
        sizes = [len(ids) for ids in table.get("input_ids", table.get("tokens"))]
    ids = table.get("input_ids", table.get("tokens"))
    if target == "megatron-bridge":
        masks = [[0, *mask[:-1]] for mask in table["loss_mask"]]
    else:
        masks = [[int(label != -100) for label in labels] for labels in table["labels"]]
    return [(i[:size], mask[:size]) for i, mask, size in zip(ids, masks, sizes, strict=True)]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
TURNS = st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=6)


@settings(max_examples=12, deadline=None)
@given(st.lists(TURNS, min_size=1, max_size=12))
def test_any_runs_come_back_as_they_were(tmp_path_factory, made):
    root = tmp_path_factory.mktemp("runs")
    rows = [{"turns": turns} for turns in made]
    folder, expected = cook_runs(rows, root), expected_of(rows)
    assert examples(folder) == expected
    mixed = mix(root / "out", root / "mixed").folder
    assert examples(mixed) == expected
    assert [str(each) for path in (folder, mixed) for each in verify(path).datasets[0].findings] == []
    flat = [[], []]
    for row in read_cooked(folder).sequences():
        flat[0] += row.input_ids.tolist()
        flat[1] += row.loss_mask.tolist()
    for target in TARGETS:
        out = export(folder, target, root / target).folder
        if target == "jsonl":
            lines = (orjson.loads(line) for line in (out / "train-00000-of-00001.jsonl").read_bytes().splitlines())
            spans = sum(len(line["spans"]) for line in lines)
            assert spans == sum(max(0, after - before) for _, mask in expected.values()
                                for before, after in itertools.pairwise(mask)), target  # fmt: skip
            continue
        ids, mask = ([*itertools.chain(*each)] for each in zip(*exported(target, out), strict=True))
        if target == "hf":  # filled with pads, which are not told from text
            rest = iter(zip(ids, mask, strict=True))
            assert all(pair in rest for pair in zip(*flat, strict=True)), target
        else:
            assert [ids, mask] == flat, target


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda mask, labels, ids: (mask.__setitem__(0, 1), labels.__setitem__(0, ids[0])),
         "token 0: loss_mask is 1; expected 0"),
        (lambda mask, labels, ids: (mask.fill(0), labels.fill(-100)), "loss_mask is 1 on 0 of "),
        (lambda mask, labels, ids: labels.__setitem__(-1, -100), f"labels is -100; expected {EOS}"),
        (lambda mask, labels, ids: mask.__setitem__(1, 2), "token 1: loss_mask is 2; expected 0"),
    ],
)  # fmt: skip
def test_what_runs_may_not_be(tmp_path, change, found):
    folder = cook_runs([{"turns": [["say", False], ["yes", True], ["again", False], ["no", True]]}], tmp_path)
    bench = Bench(folder, tmp_path / "broken", tmp_path / "in")
    rows = bench.read(NAME)
    change(rows["loss_mask"][0], rows["labels"][0], rows["input_ids"][0])
    bench.write(NAME, rows)
    bench.seal()
    told = [str(each) for each in bench.findings(deep=False)]
    assert any(line.startswith(f"{NAME}: row 0: ") and found in line for line in told), told


@pytest.mark.parametrize(
    ("rule", "found"),
    [("any", "cook.json: its fields are not those that cook writes: ValueError: mask_rule is 'any'"),
     ("prefix", f"{NAME}: row 0: token 3: loss_mask is 0; expected 1"),
     ("all-but-bos", f"{NAME}: row 0: token 1: loss_mask is 0; expected 1 (and 1 more)")],
)  # fmt: skip
def test_another_rule(tmp_path, rule, found):
    folder = cook_runs([{"turns": [["say", False], ["yes", True], ["again", False]]}], tmp_path)
    bench = Bench(folder, tmp_path / "broken", tmp_path / "in")
    bench.fields["mask_rule"] = rule
    bench.seal()
    told = [str(each) for each in bench.findings(deep=False)]
    assert any(line.startswith(found) for line in told), told
