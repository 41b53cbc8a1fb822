"""LLaMA-Factory: get_dataset with tokenized_path, and SFTDataCollatorWith4DAttentionMask, sdpa and fa2."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import torch

# It is for audio, of which there is none, and its builds must match torch's.
sys.modules["torchaudio"] = ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)
from common import arguments, compare, compare_runs
from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset
from transformers import PreTrainedTokenizerFast

folder, truth = arguments()
data_args = SimpleNamespace(tokenized_path=str(folder), streaming=False)
rows = get_dataset(None, None, data_args, None, stage="sft", tokenizer=None)["train_dataset"]
from tokenizers import Tokenizer, models

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, "<pad>")))
tokenizer.pad_token, tokenizer.padding_side = "<pad>", "right"
template = SimpleNamespace(mm_plugin=SimpleNamespace(image_token=None, audio_token=None, get_mm_inputs=lambda *a: {}))


def collator(**more):
    """As run_sft makes it, for training."""
    return SFTDataCollatorWith4DAttentionMask(
        template=template, tokenizer=tokenizer, pad_to_multiple_of=8, label_pad_token_id=-100, neat_packing=True, **more
    )


sdpa = collator(block_diag_attn=True, attn_implementation="sdpa")
batch = sdpa([dict(row) for row in rows])
compare_runs(batch["labels"].tolist(), truth)
compare(zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True), truth)
masked = batch["attention_mask"]
segments = torch.tensor(rows["attention_mask"])
several = int((segments.max(dim=1).values > 1).nonzero()[0])
second = int((segments[several] == 2).nonzero()[0])
assert (masked[several, 0, second, :second] < 0).all(), "the second example sees the first"
fa2 = collator(attn_implementation="flash_attention_2")
labels = []
for row in rows:
    batch = fa2([dict(row)])
    assert batch["attention_mask"] is None
    if not batch["position_ids"].shape == batch["input_ids"].shape == batch["labels"].shape:
        sys.exit("FAILED: fa2: position_ids are of another shape than input_ids")
    labels.append((batch["input_ids"][0].tolist(), batch["labels"][0].tolist()))
    starts = (batch["position_ids"][0] == 0).sum()
    assert starts == max(row["attention_mask"]), "position_ids do not begin again at each example"
compare(labels, truth)
print("ok: sdpa by its 4D mask, fa2 by position_ids, examples apart")
