"""What a model learns from cooked sequences is what it would learn from their examples, one by one, from the text.

The reference is written here without cook: a shard's line is formatted with the published templates, encoded by Hugging
Face tokenizers, and the loss of its output is taken from the logits by hand. Models are tiny, random and in float64, so
that equal means equal. The trainers are the real ones; what reaches the model is recorded there, and read.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tokenizers

import cook
from conftest import COLLECTION, needs_collection
from reference import MODELS, model_json

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[train]'")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what TRL imports
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install '.[train]'")
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
        default_data_collator,
    )
    from trl import SFTConfig, SFTTrainer

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "src" / "cook" / "sample"
ATTENTIONS, LAYOUTS = ("few-shot", "isolated"), ("flat", "padded")
MODES = list(itertools.product(ATTENTIONS, LAYOUTS))
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:.*pin_memory.*")

spec = importlib.util.spec_from_file_location("train_tiny", ROOT / "scripts" / "train_tiny.py")
train_tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train_tiny)


@pytest.fixture(autouse=True, scope="module")
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


# The reference: text -> examples -> losses.


class Reference:
    """Hugging Face tokenizers on a tokenizer.json, and the published templates."""

    def __init__(self, document: bytes, bos_ids: list[int], eos_id: int) -> None:
        self.tokenizer = tokenizers.Tokenizer.from_str(document.decode())
        self.bos_ids, self.eos_id = bos_ids, eos_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def example(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        """The input and the output of an entry."""
        inputs = self.bos_ids + self.encode(f" <CON> {row['context']} </CON>\n\n")
        return inputs, [*self.encode(text_of(row)), self.eos_id]


def text_of(row: dict[str, Any]) -> str:
    return "\n\n".join(f"<QUE> {pair['Q']} <ANS> {pair['A']} </END>" for pair in row["QA_list"])


def lines_of(folder: Path) -> list[list[dict[str, Any]]]:
    """The entries of each shard of a dataset."""
    shards = sorted((folder / "shard").glob("*.jsonl"))
    return [[orjson.loads(line) for line in path.read_bytes().splitlines()] for path in shards]


def entries_of(row: Any, lines: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [lines[shard][line - 1] for shard, line in zip(row["source_shard"], row["source_line"], strict=True)]


def summed_loss(model: Any, pieces: list[tuple[list[int], list[int]]], joined: bool = False) -> Any:
    """-log p of every token of every output, summed: each example alone, or after those before it."""
    total, before = 0, []
    for inputs, outputs in pieces:
        ids = before + inputs + outputs
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        scores = torch.log_softmax(model.lm_head(hidden[len(ids) - len(outputs) - 1 : -1]), -1)
        total = total - scores[torch.arange(len(outputs)), torch.tensor(outputs)].sum()
        before = ids if joined else []
    return total


def batch_loss(model: Any, batch: dict[str, Any]) -> tuple[Any, int]:
    """The loss that a model's own shift gives for a batch, summed, in the model's precision; and trained tokens."""
    batch = dict(batch)
    target = batch.pop("labels")[:, 1:]
    kept = target != -100
    hidden = model.model(**batch).last_hidden_state[:, :-1][kept]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), target[kept], reduction="sum"), int(kept.sum())


def tiny(vocabulary: int, hidden: int = 16, attn: str = "sdpa", dtype: str = "float64") -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        initializer_range=0.3,  # attention that matters
        attn_implementation=attn,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config).to(getattr(torch, dtype))


# A small vocabulary, for what takes many steps.


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder of a tokenizer of 2,000 tokens, its Reference)."""
    folder = train_tiny.write_tokenizer(tmp_path_factory.mktemp("small") / "small")
    return folder, Reference((folder / "tokenizer.json").read_bytes(), [0], 1)


def cooked(output: Path, tokenizer: str, name: str, max_length: int, source: Any = "sample", **settings: Any) -> Path:
    settings = {"cache": "none", "overlong": "drop", "jobs": 1} | settings
    recipe = cook.Recipe(
        datasets=name, tokenizer=tokenizer, source=str(source), max_length=max_length, output=output, **settings
    )
    return cook.run(recipe).results[0].folder


@pytest.fixture(scope="module")
def squad(small, tmp_path_factory):
    """The sample's squad in sequences of up to 640 tokens: its folder."""
    return cooked(tmp_path_factory.mktemp("squad"), str(small[0]), "squad", 640, limit=20)


@pytest.fixture(scope="module")
def rows(squad, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("hf")))
        patch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", str(tmp_path_factory.mktemp("hf-downloads")))
        return cook.load(squad)


def collators(**settings: Any) -> list[Any]:
    return [cook.Collator(attention=attention, layout=layout, **settings) for attention, layout in MODES]


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_loss_and_gradients_are_those_of_the_text(small, rows, attention, layout, attn):
    reference, lines = small[1], lines_of(SAMPLE / "squad")
    model = tiny(2000, attn=attn)
    taken = [row for row in rows if len(row["seq_lengths"]) > 1][:3]
    pieces = [[reference.example(entry) for entry in entries_of(row, lines)] for row in taken]
    right = sum(summed_loss(model, examples, joined=attention == "few-shot") for examples in pieces)
    tokens = sum(len(outputs) for examples in pieces for _, outputs in examples)
    right.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    collate = cook.Collator(attention=attention, layout=layout, pad_to_multiple_of=64, mask_dtype="float64")
    batch = collate(taken)
    found, trained = batch_loss(model, batch)
    assert trained == tokens
    assert (found / tokens).item() == pytest.approx((right / tokens).item(), abs=1e-10)
    found.backward()
    for gradient, parameter in zip(expected, model.parameters(), strict=True):
        assert (parameter.grad - gradient).norm() <= 1e-5 * gradient.norm()  # Llama's norms compute in float32
    with torch.no_grad():
        assert model(**batch).loss.item() == pytest.approx((right / tokens).item(), abs=1e-5)  # its loss is in float32
        other = sum(summed_loss(model, examples, joined=attention == "isolated") for examples in pieces)
    assert abs((other - right) / tokens) > 1e-4, "both kinds of attention give one loss: the test sees nothing"


SETS = [("sample", "squad"), ("collection", "squad"), ("collection", "AQUA_RAT_yes_opt")]


@pytest.mark.parametrize("model_name", ["llama3", "mistral"])
@pytest.mark.parametrize(("where", "name"), SETS)
def test_loss_with_real_tokenizers(tmp_path, model_name, where, name):
    source = SAMPLE if where == "sample" else COLLECTION
    if not source.is_dir():
        pytest.skip("the real shards are not here")
    known = MODELS[model_name]
    reference, lines = Reference(model_json(model_name), known.bos_ids, known.eos_id), lines_of(source / name)
    folder = cooked(tmp_path, model_name, name, 640, source, limit=12, max_dropped=1.0)
    taken = [row._asdict() for row in cook.read_cooked(folder).sequences() if len(row.seq_lengths) > 1][:1]
    model = tiny(128256 if model_name == "llama3" else 32000, hidden=4)
    pieces = [reference.example(entry) for entry in entries_of(taken[0], lines)]
    tokens = sum(len(outputs) for _, outputs in pieces)
    with torch.no_grad():
        for attention in ATTENTIONS:
            right = summed_loss(model, pieces, joined=attention == "few-shot") / tokens
            found, trained = batch_loss(model, cook.Collator(attention=attention, mask_dtype="float64")(taken))
            assert trained == tokens
            assert (found / tokens).item() == pytest.approx(right.item(), abs=1e-9)


def test_packed_and_not_packed_weigh_the_same(small, squad, tmp_path):
    """Over a whole dataset, isolated: the loss does not depend on which examples share a sequence."""
    one_each = cooked(tmp_path, str(small[0]), "squad", 640, packing="none", limit=20)
    model, collate = tiny(2000), cook.Collator(attention="isolated")
    means = []
    with torch.no_grad():
        for folder in (squad, one_each):
            losses = [batch_loss(model, collate([row])) for row in cook.read_cooked(folder).sequences()]
            means.append(float(sum(loss for loss, _ in losses)) / sum(trained for _, trained in losses))
    assert means[0] == pytest.approx(means[1], abs=1e-10)


def test_masked_tokens_bear_no_loss_and_trained_ones_do(rows):
    model = tiny(2000)
    row = rows[0]
    ids, mask = (torch.tensor(row[name]) for name in ("input_ids", "loss_mask"))
    assert row["labels"] == torch.where(mask == 1, ids, -100).tolist()
    batch = cook.Collator(layout="flat")([row])
    del batch["labels"]
    logits = model(**batch).logits.detach().requires_grad_()

    def loss(wanted):
        return torch.nn.functional.cross_entropy(logits[0, :-1], torch.where(mask == 1, wanted, -100)[1:])

    right = loss(ids)
    right.backward()
    bears = logits.grad[0].abs().sum(-1) > 0
    assert bears.tolist() == [*(mask[1:] == 1).tolist(), False], "loss falls on the logits before each trained token"
    corrupted = torch.where(mask == 1, ids, (ids + 7) % 2000)
    assert loss(corrupted).item() == right.item()
    for place in mask.nonzero()[:, 0].tolist():
        changed = ids.clone()
        changed[place] = (changed[place] + 7) % 2000
        assert loss(changed).item() != right.item(), place


def test_no_first_token_is_trained(rows):
    forged = [dict(row, labels=row["input_ids"]) for row in rows.select(range(4))]  # what no data should hold
    for taken, collate in itertools.product((list(rows), forged), collators()):
        batch = collate(taken)
        if collate.layout == "flat":
            starts = np.append(0, np.cumsum([length for row in taken for length in row["seq_lengths"]])[:-1])
            assert (batch["labels"][0, starts] == -100).all()
        else:
            for number, row in enumerate(taken):
                starts = np.append(0, np.cumsum(row["seq_lengths"])[:-1])
                assert (batch["labels"][number, starts] == -100).all()
    assert all(label == -100 for row in rows for label, start in zip(row["labels"], firsts(row), strict=True) if start)


def firsts(row):
    """A flag a token: whether an example begins there."""
    return [place == 0 for length in row["seq_lengths"] for place in range(length)]


# The real trainers, at a learning rate of 0: one optimizer step over all rows, whose logged loss is then known.


class Recorded:
    """A trained dataset: what reached the model, and what was logged."""

    def __init__(self, model: Any) -> None:
        self.model, self.batches = model, list[dict[str, Any]]()
        model.register_forward_pre_hook(self._hook, with_kwargs=True)

    def _hook(self, _module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        assert not arguments
        held = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in keywords.items()}
        self.batches.append(held)

    def spans(self) -> list[list[int]]:
        """The runs of trained tokens in all batches, in no order; nothing else is trained."""
        found = []
        for batch in self.batches:
            for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
                assert all(label in (-100, i) for label, i in zip(labels, ids, strict=True))
                runs = itertools.groupby(labels, key=lambda label: label != -100)
                found += [list(run) for trained, run in runs if trained]
        return sorted(found)


def arguments_of(tmp_path: Path, count: int, batch: int, kind: Any, **settings: Any) -> Any:
    return kind(
        output_dir=str(tmp_path / "trainer"),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=-(-count // batch),
        max_steps=1,
        learning_rate=0.0,
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,  # TRL's default is to compute in bfloat16
        **settings,
    )


def trained_by(trainer: Any, recorded: Recorded) -> float:
    """The loss that the trainer logs for the one step."""
    recorded.batches.clear()
    trainer.train()
    [logged] = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return logged


@pytest.fixture(scope="module")
def by_hand(small, rows):
    """The loss of all rows by hand, for each attention, in float64, of the model that the trainers get in float32."""
    reference, lines = small[1], lines_of(SAMPLE / "squad")
    model = tiny(2000, dtype="float32").double()
    pieces = [[reference.example(entry) for entry in entries_of(row, lines)] for row in rows]
    tokens = sum(len(outputs) for examples in pieces for _, outputs in examples)
    with torch.no_grad():
        sums = {
            attention: sum(summed_loss(model, examples, joined=attention == "few-shot") for examples in pieces)
            for attention in ATTENTIONS
        }
    return {attention: (total / tokens).item() for attention, total in sums.items()}


def outputs_of(reference: Reference, rows: Any) -> list[list[int]]:
    """The outputs that all rows should train, encoded from the text; and decoded, they are that text."""
    lines = lines_of(SAMPLE / "squad")
    entries = [entry for row in rows for entry in entries_of(row, lines)]
    expected = [reference.example(entry)[1] for entry in entries]
    for entry, outputs in zip(entries, expected, strict=True):
        assert reference.tokenizer.decode(outputs[:-1]) == text_of(entry)
    return sorted(expected)


def sft(tmp_path: Path, small: Any, rows: Any, model: Any, **settings: Any) -> Any:
    batch = settings.pop("batch", 3)
    collator = settings.pop("data_collator", None)
    return SFTTrainer(
        model=model,
        args=arguments_of(tmp_path, len(rows), batch, SFTConfig, **settings),
        train_dataset=rows,
        processing_class=PreTrainedTokenizerFast.from_pretrained(small[0]),
        data_collator=collator,
    )


def test_trl_padding_free_is_isolated(tmp_path, small, rows, by_hand):
    model = tiny(2000, dtype="float32")
    recorded = Recorded(model)
    trainer = sft(tmp_path, small, rows, model, packing=False, padding_free=True, max_length=None)
    assert trained_by(trainer, recorded) == pytest.approx(by_hand["isolated"], abs=1e-5)
    assert recorded.spans() == outputs_of(small[1], rows)
    for batch in recorded.batches:
        assert batch.get("attention_mask") is None
        starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
        assert batch["cu_seq_lens_q"].tolist() == [*starts, batch["input_ids"].shape[1]]
    lengths = sorted(length for row in rows for length in row["seq_lengths"])
    assert sorted(n for batch in recorded.batches for n in batch["cu_seq_lens_q"].diff().tolist()) == lengths


@pytest.mark.parametrize(("attention", "layout"), MODES)
def test_trl_with_our_collator(tmp_path, small, rows, by_hand, attention, layout):
    model = tiny(2000, dtype="float32")
    recorded = Recorded(model)
    collate = cook.Collator(attention=attention, layout=layout)
    trainer = sft(tmp_path, small, rows, model, max_length=None, data_collator=collate)
    assert trained_by(trainer, recorded) == pytest.approx(by_hand[attention], abs=1e-5)
    assert recorded.spans() == outputs_of(small[1], rows)


def test_the_traps_of_trl(tmp_path, small, rows, by_hand):
    """As it is in TRL 1.16; where this fails it has changed, and the pages must."""
    assert SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none").max_length == 1024
    expected = outputs_of(small[1], rows)
    # Without padding_free an example sees those before it.
    recorded = Recorded(tiny(2000, dtype="float32"))
    logged = trained_by(sft(tmp_path, small, rows, recorded.model, max_length=None), recorded)
    assert recorded.spans() == expected
    assert logged == pytest.approx(by_hand["few-shot"], abs=1e-5)
    assert abs(logged - by_hand["isolated"]) > 5e-5
    # A max_length under the sequences' cuts them, and says nothing; with padding_free TRL refuses it.
    recorded = Recorded(tiny(2000, dtype="float32"))
    trained_by(sft(tmp_path, small, rows, recorded.model, max_length=400), recorded)
    assert max(batch["input_ids"].shape[1] for batch in recorded.batches) == 400
    assert sum(map(len, recorded.spans())) < sum(map(len, expected))
    with pytest.raises(ValueError, match="max_length"):
        sft(tmp_path, small, rows, tiny(2000, dtype="float32"), padding_free=True)
    # Our collator sees the cut, by seq_lengths.
    collate = cook.Collator()
    with pytest.raises(cook.InputError, match="max_length=None"):
        sft(tmp_path, small, rows, tiny(2000), max_length=400, data_collator=collate).train()


@pytest.mark.parametrize(("attention", "layout"), MODES)
def test_trainer_with_our_collator(tmp_path, small, rows, by_hand, attention, layout):
    model = tiny(2000, dtype="float32")
    recorded = Recorded(model)
    settings = arguments_of(tmp_path, len(rows), 3, TrainingArguments, remove_unused_columns=False)
    collate = cook.Collator(attention=attention, layout=layout, pad_to_multiple_of=8, pad_id=5)
    trainer = Trainer(model=model, args=settings, train_dataset=rows, data_collator=collate)
    assert trained_by(trainer, recorded) == pytest.approx(by_hand[attention], abs=1e-5)
    assert recorded.spans() == outputs_of(small[1], rows)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_trainer_with_the_default_collator(tmp_path, small, rows, by_hand, attention):
    """One row a batch: as it lies on disk it is few-shot; with a column of position_ids isolated."""
    if attention == "isolated":
        positions = [[place for length in row["seq_lengths"] for place in range(length)] for row in rows]
        rows = rows.add_column("position_ids", positions)
    model = tiny(2000, dtype="float32")
    recorded = Recorded(model)
    settings = arguments_of(tmp_path, len(rows), 1, TrainingArguments)
    trainer = Trainer(model=model, args=settings, train_dataset=rows, data_collator=default_data_collator)
    assert trained_by(trainer, recorded) == pytest.approx(by_hand[attention], abs=1e-5)
    assert recorded.spans() == outputs_of(small[1], rows)


def test_a_cache_or_a_mask_hides_position_ids_from_attention(rows):
    """As it is in transformers 5.23, and why a flat batch holds use_cache=False and no attention_mask."""
    model = tiny(2000)
    row = next(row for row in rows if len(row["seq_lengths"]) > 1)
    batch = cook.Collator(attention="isolated")([row])
    del batch["labels"]
    first = row["seq_lengths"][0]
    with torch.no_grad():
        alone = model(input_ids=batch["input_ids"][:, first : first + row["seq_lengths"][1]]).logits

        def differs(**changes):
            found = model(**batch | changes).logits[:, first : first + alone.shape[1]]
            return (found - alone).abs().max().item()

        assert differs() < 1e-10
        assert differs(use_cache=True) > 1e-3
        assert differs(attention_mask=torch.ones_like(batch["input_ids"])) > 1e-3


@needs_collection
@pytest.mark.parametrize("name", ["QED"])
def test_a_thousand_real_examples_decode_to_their_pairs(tmp_path, name):
    folder = cooked(tmp_path, "llama3", name, 4096, COLLECTION)
    opened = cook.read_cooked(folder)
    shards = [COLLECTION / name / "shard" / Path(row["name"]).name for row in opened.manifest["inputs"]]
    lines = [[orjson.loads(line) for line in path.read_bytes().splitlines()] for path in shards]
    decoder = tokenizers.Tokenizer.from_str(model_json("llama3").decode())
    collate, seen = cook.Collator(attention="isolated"), 0
    for row in opened.sequences():
        batch = collate([row])
        ends = batch["cu_seq_lens_q"].tolist()
        for entry, begin, end in zip(entries_of(row._asdict(), lines), ends[:-1], ends[1:], strict=True):
            labels = batch["labels"][0, begin:end]
            trained = labels[labels != -100].tolist()
            assert trained.pop() == MODELS["llama3"].eos_id
            assert decoder.decode(trained, skip_special_tokens=False) == text_of(entry)
            seen += 1
        if seen >= 1000:
            break
    assert seen >= 1000


def test_the_tiny_model_learns():
    """From random weights to pairs in the right format, and a loss on unseen pairs that has fallen by a third."""
    command = [sys.executable, str(ROOT / "scripts" / "train_tiny.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    figures, _, written = done.stdout.partition("it writes:\n")
    before, after = (float(x) for x in figures.partition("\nvalidation loss ")[2].split("\n")[0].split(" -> "))
    assert before == pytest.approx(np.log(2000), abs=0.3), "a random start knows nothing"
    assert after < before * 2 / 3
    assert written.startswith("<QUE> ")
    assert re.search(r"<QUE> \S.*? <ANS> \S.*? </END>", written), written
