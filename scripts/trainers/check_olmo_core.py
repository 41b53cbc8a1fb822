"""OLMo-core: NumpyPackedFSLDatasetConfig, its collator, and get_labels."""

import tempfile

from common import arguments, compare, compare_runs
from olmo_core.data import DataCollator, NumpyDatasetDType, NumpyPackedFSLDatasetConfig, TokenizerConfig
from olmo_core.data.types import LongDocStrategy
from olmo_core.data.utils import get_labels

folder, truth = arguments()
tokenizer = TokenizerConfig(
    vocab_size=truth["vocab_size"],
    eos_token_id=truth["eos_id"],
    pad_token_id=truth["pad_id"],
    bos_token_id=truth["bos_id"],
)
with tempfile.TemporaryDirectory() as work:
    dataset = NumpyPackedFSLDatasetConfig(
        tokenizer=tokenizer,
        paths=[str(folder / "token_ids_part_*.npy")],
        label_mask_paths=[str(folder / "labels_mask_part_*.npy")],
        expand_glob=True,
        dtype=NumpyDatasetDType.uint32,
        sequence_length=truth["max_length"],
        generate_doc_lengths=True,
        long_doc_strategy=LongDocStrategy.truncate,
        work_dir=work,
    ).build()
    dataset.prepare()
    batch = DataCollator(pad_token_id=truth["pad_id"])([dataset[index] for index in range(len(dataset))])
    labels = get_labels(batch)
compare_runs(labels.tolist(), truth)
compare(zip(batch["input_ids"].tolist(), labels.tolist(), strict=True), truth, shifted=True)
lengths = {len(example["ids"]) for example in truth["examples"]}
documents = [[length for length in row if length] for row in batch["doc_lens"].tolist()]
assert any(len(row) > 1 for row in documents), "no row has several documents"
# The pads, which are EOS too, count to the last of a row.
assert all(length in lengths for row in documents for length in row[:-1]), "documents are not the examples"
print("ok: documents are the examples")
