"""Train a model on what cook writes, and see that it learns: the loss on pairs it never saw falls, and it writes pairs.

    python scripts/train_tiny.py
    python scripts/train_tiny.py --model HUB_OR_PATH --source hub --dataset squad --max-length 4096 --steps 1000

Without --model it is a Llama of a million weights with random start and a vocabulary of 2,000, learnt from the bundled
sample: half a minute on a core. Training is TRL's SFTTrainer, examples isolated; a GPU is used where there is one, in
bfloat16. Needs `pip install '.[train]'`. On one machine the same arguments print the same figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

import cook

BOS, EOS = "<s>", "</s>"
VOCABULARY = 2000
MAX_GENERATED_TOKENS = 160  # the most that is generated


def main() -> int:
    """Cook, train, say what came of it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a causal language model on the Hub or in a folder; its tokenizer is used")
    parser.add_argument("--source", default="sample", help="where shards come from, as for cook; sample")
    parser.add_argument("--dataset", default="squad", help="squad")
    parser.add_argument(
        "--validation",
        type=orjson.loads,
        default=0.15,
        help="share or number of the contexts kept for validation; 0.15",
    )
    parser.add_argument("--max-length", type=int, default=384, help="tokens of a sequence; 384")
    parser.add_argument("--steps", type=int, default=180, help="180")
    parser.add_argument("--batch", type=int, default=2, help="sequences of a step; 2")
    parser.add_argument("--learning-rate", type=float, help="3e-3, with --model 1e-5")
    parser.add_argument("--seed", type=int, default=0, help="0")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="cuda where there is one")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    with tempfile.TemporaryDirectory(prefix="cook-train-") as work:
        return _run(given, Path(work))


def _run(given: argparse.Namespace, work: Path) -> int:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, set_seed

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    set_seed(given.seed)
    if given.model:
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        model = AutoModelForCausalLM.from_pretrained(given.model, dtype="bfloat16" if device == "cuda" else "float32")
    else:
        folder = write_tokenizer(work / "tokenizer")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        torch.set_num_threads(1)  # more are no faster with so little to do
        model = tiny_model(len(tokenizer), hidden=96)
    recipe = cook.Recipe(
        datasets=given.dataset,
        tokenizer=given.model or str(work / "tokenizer"),
        source=given.source,
        max_length=given.max_length,
        validation=given.validation,
        output=str(work / "cooked"),
        cache="none",
    )
    result = cook.run(recipe).results[0]
    train, validation = (cook.load(result.folder, split) for split in ("train", "validation"))
    counts = result.counts
    print(f"{result.name}: {counts['pairs']} pairs, {len(train)} and {len(validation)} sequences; {device}")
    before = validation_loss(model.to(device), validation)
    print(f"step {0:5}  validation loss {before:.4f}", flush=True)
    rate = given.learning_rate or (1e-5 if given.model else 3e-3)
    _train(model, tokenizer, train, validation, given, rate, device, work)
    after = validation_loss(model, validation)
    print(f"validation loss {before:.4f} -> {after:.4f}")
    print("after a context of the validation split it writes:")
    print(generate(model, tokenizer, validation[0]))
    return 0


def write_tokenizer(folder: Path) -> Path:
    """Train a byte-level BPE tokenizer on the bundled sample; a folder that cook and transformers read."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, **tokens}
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    return folder


def _texts() -> list[str]:
    sample = Path(str(resources.files("cook") / "sample"))
    rows = [orjson.loads(line) for path in sorted(sample.rglob("*.jsonl")) for line in path.read_bytes().splitlines()]
    pairs = [f"<QUE> {pair['Q']} <ANS> {pair['A']} </END>" for row in rows for pair in row["QA_list"]]
    return [f" <CON> {row['context']} </CON>\n\n" for row in rows] + pairs


def tiny_model(vocabulary: int, hidden: int, **settings: Any) -> Any:
    """A Llama of two layers with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        **settings,
    )
    return LlamaForCausalLM(config)


def validation_loss(model: Any, rows: Any) -> float:
    """The mean loss of the trained tokens of all rows, each token the same weight, examples isolated."""
    import torch

    collate = cook.Collator(attention="isolated")
    total, tokens = 0.0, 0
    training = model.training
    model.eval()
    with torch.no_grad():
        for row in rows:
            batch = {
                key: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for key, value in collate([row]).items()
            }
            trained = int((batch["labels"] != -100).sum())
            total += float(model(**batch).loss) * trained
            tokens += trained
    model.train(training)
    return total / tokens


def _train(
    model: Any, tokenizer: Any, train: Any, validation: Any, given: argparse.Namespace, rate: float, device: str,
    work: Path,
) -> None:  # fmt: skip
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:  # noqa: ARG002
            if "loss" in (logs or {}):
                there = validation_loss(model, validation)
                print(f"step {state.global_step:5}  validation loss {there:.4f}  loss {logs['loss']:.4f}", flush=True)

    settings = SFTConfig(
        output_dir=str(work / "trainer"),
        packing=False,  # it is done
        padding_free=True,  # examples do not see each other
        max_length=None,  # the default, 1024, would cut
        per_device_train_batch_size=given.batch,
        max_steps=given.steps,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=given.steps // 20,
        logging_steps=max(1, given.steps // 4),
        seed=given.seed,
        data_seed=given.seed,
        bf16=device == "cuda",
        use_cpu=device == "cpu",
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
    )
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=train, processing_class=tokenizer, callbacks=[Watch()]
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()


def generate(model: Any, tokenizer: Any, row: Any) -> str:
    """What the model writes, greedily, after the input of a row's first example."""
    import torch

    inputs = row["labels"][: row["seq_lengths"][0]].index(next(i for i in row["labels"] if i != -100))
    ids = torch.tensor([row["input_ids"][:inputs]], device=model.device)
    model.eval()
    with torch.no_grad():
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=MAX_GENERATED_TOKENS,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
        )
    text: str = tokenizer.decode(made[0, inputs:], skip_special_tokens=False)
    return text


if __name__ == "__main__":
    sys.exit(main())
