"""USE.md beside an export: how the trainer reads it, what makes it right, and what silently makes it wrong."""

from __future__ import annotations

from typing import Any

from cook.trainers.olmo import id_dtype
from cook.trainers.tables import llama_factory_length

NAME = "USE.md"

TRL = """\
Read by TRL's SFTTrainer; a row a sequence: `input_ids`, `labels`, `seq_lengths`.

```python
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("parquet", data_files="THIS FOLDER/{split}-*.parquet", split="train")
args = SFTConfig(packing=False, padding_free=True, max_length=None, ...)
SFTTrainer(model="...", args=args, train_dataset=rows)
```

Right:
- `padding_free=True` with an attention that takes boundaries (flash attention, or sdpa by `position_ids`): examples are
  isolated. Without it a sequence is one text, in which later examples see earlier ones: the few-shot recipe. Then
  leave `padding_free` out.
- `max_length=None`. The rows hold at most {max_length:,} tokens.

Silently wrong:
- `max_length` left at its default (1024): what is beyond is cut.
- `packing=True`: packs the packed; examples are cut at any token, and few-shot order is lost.
- `completion_only_loss`, `assistant_only_loss`: labels are here already.
- Leaving out the column `seq_lengths` with `padding_free=True`: a sequence then counts as one example.
"""

HF = """\
Read by transformers' Trainer; a row a sequence, padded to {max_length:,}: `input_ids`, `labels`, `position_ids`.
{attention}

```python
from datasets import load_dataset
from transformers import Trainer, TrainingArguments, default_data_collator

rows = load_dataset("parquet", data_files="THIS FOLDER/{split}-*.parquet", split="train")
Trainer(model=model, args=TrainingArguments(...), train_dataset=rows, data_collator=default_data_collator)
```

Right:
- `default_data_collator`: rows are of equal length, and labels are not shifted (the model shifts them).
- `model.config.use_cache = False` (Trainer sets it): with a cache the model does not look for boundaries.
- A model that takes `position_ids`; attention eager, sdpa or flash.

Silently wrong:
- Any `attention_mask`, also of ones: it switches off the search for boundaries in `position_ids`.
  `DataCollatorWithPadding`, `DataCollatorForLanguageModeling` and `DataCollatorForSeq2Seq` add one.
- `DataCollatorForLanguageModeling` also makes labels of its own: loss on all tokens.
- `TrainingArguments(remove_unused_columns=True)` with a wrapper whose `forward` does not name `position_ids`: the
  column is dropped.
"""

ATTENTION = {
    "isolated": "`position_ids` begin again at each example (and at the pads): no example sees another.",
    "few-shot": "`position_ids` run through the sequence: later examples see earlier ones, as demonstrations.",
}

LLAMA_FACTORY = """\
Read by LLaMA-Factory; a DatasetDict of save_to_disk, a row a sequence, padded to {llama_factory_length:,}: `input_ids`,
`attention_mask` (the number of the token's example, from 1; 0 on pads), `position_ids` (from 0 in each example),
`labels`. Only `train` (and `validation`, for evaluation) are names that it knows.

```yaml
tokenized_path: THIS FOLDER
neat_packing: true
flash_attn: sdpa        # or fa2, with per_device_train_batch_size: 1
```

Right:
- `neat_packing: true`, which also has the model keep examples apart. Versions that only patch flash attention read
  the segment ids of `attention_mask`; 0.9.5 with fa2 goes by `position_ids` alone, one row a batch.
- A copy of the folder for each run that maps it: its own caches go into it.

Silently wrong:
- Without `neat_packing` the segment ids count as ones: examples see each other.
- `dataset`, `template`, `cutoff_len`, `mask_history`, `train_on_prompt`: ignored, the rows are as they are.
- Another column, such as seq_lengths: the collator would try to make a tensor of it.
"""

AXOLOTL = """\
Read by axolotl, which packs itself; a row an example: `input_ids`, `attention_mask`, `labels`.

```yaml
datasets:
  - path: THIS FOLDER
    data_files: ["{split}-*.parquet"]
    ds_type: parquet
    type:
sample_packing: true
sequence_len: {max_length}
pad_to_sequence_len: true
```

Right:
- `type:` is empty, and the three columns are there: then it takes the rows as tokenized.
- `sequence_len` at least {max_length:,}; longer examples are dropped.

Silently wrong:
- Packed rows instead of these: `sample_packing` writes `position_ids` of its own, one run a row, so that the examples
  of a packed row see each other.
- `sample_packing` without flash (or another varlen or flex) attention: examples may see each other.
- `train_on_inputs` and `roles_to_train` are ignored: labels are here already.
"""

TORCHTUNE = """\
Read by torchtune (0.6.1), which packs itself, in memory; a row an example: `tokens`, `labels` (-100, not shifted).

```python
from datasets import load_dataset
from torchtune.datasets import PackedDataset

def cooked(tokenizer=None, data_files="THIS FOLDER/{split}-*.parquet", packed=True):
    rows = load_dataset("parquet", data_files=data_files, split="train")
    return PackedDataset(rows, max_seq_len={max_length}, padding_idx={pad_id}) if packed else rows
```

In the recipe's configuration: `dataset._component_: my_module.cooked`, with `dataset.packed: True`.

Right:
- The recipes of 0.6.1 shift labels in their loss step, so these are not shifted.
- `max_seq_len` at least {max_length:,}: a longer example is an error.

Silently wrong:
- A loss step or collator that does not shift (a version or recipe of your own): each token is trained to predict
  itself. Check the one that is installed.
- `split_across_pack=True`: an answer is cut from its context.
- `padding_idx` 0 is a word of some vocabularies: harmless, since labels there are -100, and yet name {pad_id}.
"""

MEGATRON_BRIDGE = """\
Read by Megatron-Bridge's packed Parquet dataset (*.idx.parquet), in versions later than 0.3.1, which read .npy alone;
a row a sequence: `input_ids`, `loss_mask`, `seq_start_id` (where examples begin; the first is 0, the end is not named).

```python
dataset = FinetuningDatasetConfig(
    dataset_root="...",
    seq_length={max_length},
    packed_sequence_specs=PackedSequenceSpecs(
        packed_sequence_size={max_length},
        packed_train_data_path="THIS FOLDER/{split}-*.idx.parquet",
    ),
)
```

Right:
- `loss_mask` is of the NEXT token, as it reads it: it is rolled left by one in each example, so that the first token of
  an answer is trained, and the last token of an example predicts nothing.
- The answer-only loss (`answer_only_loss=True`, the default), and micro batches of one row.
- The tokenizer of the model: its EOS is what the collator takes for padding. Here EOS is `{eos}` ({eos_id}).

Silently wrong:
- A mask that is not rolled: the first token of every answer is lost, and one token too many is trained.
- `answer_only_loss=False`: the mask is not read, and all tokens are trained.
- A tokenizer whose EOS stands within examples: no loss on what follows it.
"""

OLMO_CORE = """\
Read by OLMo-core's NumpyPackedFSLDataset, which packs itself; headerless memmaps, a document an example:
`token_ids_part_*.npy` ({dtype}), `labels_mask_part_*.npy` (bool, of its own token), `token_ids_part_*.csv.gz`
(start,end of each document).

```python
NumpyPackedFSLDatasetConfig(
    tokenizer=TokenizerConfig(vocab_size={vocab_size}, eos_token_id={eos_id}, pad_token_id={pad_id}{bos}),
    paths=["THIS FOLDER/token_ids_part_*.npy"],
    label_mask_paths=["THIS FOLDER/labels_mask_part_*.npy"],
    expand_glob=True,
    dtype=NumpyDatasetDType.{dtype},
    sequence_length={max_length},
    generate_doc_lengths=True,  # examples do not see each other
    long_doc_strategy="truncate",
)
```

Right:
- `dtype` is named, as above: left out, it follows from the vocabulary, and another size may mean another type.
- `sequence_length` at least {max_length:,}; a longer example is cut, or with `fragment` parted from its context.
- The trainer shifts ids and mask together, so the mask is of its own token.

Silently wrong:
- `label_mask_paths` left out: all tokens are trained.
- `np.load`: the files have no header, whatever their name says.
- An `eos_token_id` other than {eos_id}: the ends of documents are sought in the ids, and not found. Where BOS and EOS
  are one token, or to be sure, `use_array_if_local=False` has the csv.gz read instead.
- `generate_doc_lengths=False`: examples of a sequence see each other.
"""

JSONL = """\
For reading, not for training: a line a sequence.

- `text`: all of it, special tokens as they are written; inputs and outputs are decoded apart, as they were encoded.
- `spans`: where trained text begins and ends in it, in characters, as Python counts them: `text[begin:end]`.
- `dataset`: of a mix, the dataset that the sequence is of.

Silently wrong: encoding `text` again. Its ids would differ where inputs and outputs meet, and control tokens in the
text would be forged.
"""

PAGES = {
    "trl": TRL,
    "hf": HF,
    "llama-factory": LLAMA_FACTORY,
    "axolotl": AXOLOTL,
    "torchtune": TORCHTUNE,
    "megatron-bridge": MEGATRON_BRIDGE,
    "olmo-core": OLMO_CORE,
    "jsonl": JSONL,
}


def usage_page(head: dict[str, Any]) -> str:
    """The page of an export, by its manifest."""
    settings, tokenizer = head["export"], head["tokenizer"]
    facts = {
        "split": settings["split"],
        "max_length": settings["max_length"],
        "llama_factory_length": llama_factory_length(settings["max_length"]),
        "attention": ATTENTION.get(settings["attention"], ""),
        "dtype": id_dtype(tokenizer["vocab_size"]).__name__,
        "bos": "" if tokenizer["bos_id"] is None else f", bos_token_id={tokenizer['bos_id']}",
        **{key: tokenizer[key] for key in ("vocab_size", "pad_id", "eos", "eos_id")},
    }
    title = f"# {settings['target']}: {head['source']['name']}, {settings['split']}"
    about = f"Made by `cook export`. The ids are of the tokenizer {tokenizer['name']}; use no other."
    return f"{title}\n\n{about}\n\n{PAGES[settings['target']].format(**facts)}"
