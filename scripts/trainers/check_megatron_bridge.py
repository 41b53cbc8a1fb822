"""Megatron-Bridge: GPTSFTPackedParquetDataset and its collate_fn, from its source where no release has them."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import megatron
from common import arguments, compare, compare_runs

# The reader alone: what the packages above it import at their top needs GPUs.
source = next(
    (Path(place) / "bridge" for place in megatron.__path__ if (Path(place) / "bridge/data/packing").is_dir()), None
)
if source is None:
    sys.exit("FAILED: put src/ of Megatron-Bridge's repository on PYTHONPATH: no release has its reader of Parquet yet")
for name in ("", ".data", ".data.packing", ".training", ".training.utils"):
    module = ModuleType(f"megatron.bridge{name}")
    module.__path__ = [str(source.joinpath(*name.split(".")))]
    sys.modules[module.__name__] = module

# Of ranks and log lines, which no release of megatron-core has as the source wants them.
ranks = ModuleType("megatron.bridge.utils.common_utils")
for name in ("get_local_rank_preinit", "get_rank_safe", "get_world_size_safe", "print_rank_0", "warn_rank_0"):
    setattr(ranks, name, lambda *a, **k: 0)
sys.modules[ranks.__name__] = ranks
for name in ("tokenizers", "tokenizers.tokenizer"):
    module = ModuleType(f"megatron.bridge.training.{name}")
    module.__path__, module.MegatronTokenizer = [], object
    sys.modules[module.__name__] = module

from megatron.bridge.data.packing.parquet import GPTSFTPackedParquetDataset

folder, truth = arguments()
tokenizer = SimpleNamespace(eos_id=truth["eos_id"], eod=truth["eos_id"], pad_id=truth["pad_id"])
dataset = GPTSFTPackedParquetDataset(
    str(folder / "train-*.idx.parquet"),
    tokenizer,
    max_seq_length=truth["max_length"],
    max_num_samples=None,
    answer_only_loss=True,
    label_key="output",  # this and the next two as its builder gives them; the rows are tokens already
    truncation_field="input",
    prompt_template="{input} {output}",
)
batch = dataset.collate_fn([dataset[index] for index in range(len(dataset))])
labels = batch["labels"].masked_fill(batch["loss_mask"] == 0, -100)
compare_runs(labels.tolist(), truth)
compare(zip(batch["tokens"].tolist(), labels.tolist(), strict=True), truth, shifted=True)
