"""torchtune: PackedDataset, padded_collate_packed, and the shift of its recipes' loss step."""

import torch
from common import arguments, compare, compare_runs
from datasets import load_dataset
from torchtune.data import padded_collate_packed
from torchtune.datasets import PackedDataset

folder, truth = arguments()
rows = load_dataset("parquet", data_files=str(folder / "train-*.parquet"), split="train")
packed = PackedDataset(rows, max_seq_len=truth["max_length"], padding_idx=truth["pad_id"])
batch = padded_collate_packed([packed[index] for index in range(len(packed))])
compare_runs(batch["labels"].tolist(), truth)
# As full_finetune_single_device.py does: labels[..., 1:] and one column that is ignored.
ignored = torch.full((batch["labels"].shape[0], 1), -100)
shifted = torch.hstack((batch["labels"][..., 1:], ignored))
compare(zip(batch["tokens"].tolist(), shifted.tolist(), strict=True), truth, shifted=True)
first = packed[0]
length = int(first["seq_lens"][0])
mask = batch["mask"][0]
assert not mask[length, :length].any(), "the second example sees the first"
print("ok: examples of a pack do not see each other")
