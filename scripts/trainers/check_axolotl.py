"""axolotl: its test for tokenized data, its wrapper, add_position_ids and the collator of sample packing."""

from axolotl.utils.collators import V2BatchSamplerDataCollatorForSeq2Seq
from axolotl.utils.data.wrappers import get_dataset_wrapper
from axolotl.utils.dict import DictDefault
from axolotl.utils.trainer import add_position_ids
from common import arguments, compare, compare_runs
from datasets import load_dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

folder, truth = arguments()
rows = load_dataset("parquet", data_files=str(folder / "train-*.parquet"), split="train")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, "<pad>")))
tokenizer.pad_token, tokenizer.padding_side = "<pad>", "right"
asked = DictDefault({"path": str(folder), "type": None, "ds_type": "parquet"})
wrapped, _ = get_dataset_wrapper(asked, tokenizer, DictDefault({}), None, rows)
assert wrapped is rows, "the rows were not taken as tokenized"
rows = rows.map(add_position_ids, batched=True)
collate = V2BatchSamplerDataCollatorForSeq2Seq(tokenizer=tokenizer, pad_to_multiple_of=64)
packs = [[dict(rows[i]) for i in range(first, min(first + 3, len(rows)))] for first in range(0, len(rows), 3)]
batch = collate(packs)
compare_runs(batch["labels"].tolist(), truth)
compare(zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True), truth)
assert (batch["position_ids"][0] == 0).sum() >= 3, "position_ids do not begin again at each example"
print("ok: position_ids begin again at each example")
