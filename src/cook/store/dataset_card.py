"""README.md of the root: one configuration a dataset, so that `load_dataset(ROOT, "squad")` works; licences; citation.

It is made anew, under a lock, from the manifests that are there. A README.md that cook did not write is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from cook.core import catalog, owned
from cook.core.errors import CookWarning, OutputError, OutputExists, write_error
from cook.core.files import fsync_folder
from cook.store import kinds, manifest
from cook.store.staging import WORK_DIR, locked, remove_empty_work_dir, remove_stale

CARD_NAME = "README.md"
CARD_MARK = "<!-- written by cook: changes here are lost at the next run -->"
COLUMNS_TEXT = (
    "`input_ids`, `labels` (-100 where no loss falls; not shifted), `loss_mask` (1 on outputs), `seq_lengths` "
    "(tokens of each example), `source_shard` and `source_line` (where each example came from)."
)
CORPUS_COLUMNS_TEXT = (
    "`text` is what to train on; `mode` and `context_after` say how it was made, `entries` of how many entries, "
    "`source_shard` and `source_line` where the first of them came from."
)


class CardWarning(CookWarning):
    """The card was not written."""


def read_manifests(root: Path) -> dict[str, dict[str, Any]]:
    """The manifests of the datasets that are whole in a root, by name, in bytewise order."""
    found = {}
    for path in sorted(root.glob(f"*/{manifest.MANIFEST_NAME}"), key=lambda path: str(path).encode()):
        try:
            read = manifest.read_manifest(path.parent)
        except OutputError:
            continue  # what is damaged is not listed
        if kinds.kind_of(read).made_of_shards:
            found[path.parent.name] = read
    return found


def refuse_mixed_root(root: Path, corpora: bool) -> None:
    """Raise OutputExists for a root of cooked datasets where corpora would go, and the other way round."""
    if any(kinds.kind_of(found).is_corpus != corpora for found in read_manifests(root).values()):
        held, other = ("cooked datasets", "corpora") if corpora else ("corpora", "cooked datasets")
        raise OutputExists(f"{root}: holds {held}, and takes no {other} beside them: choose another folder")


def is_own_card(path: Path) -> bool:
    """Whether a file is a card that cook wrote; a link to one is not."""
    try:
        return not path.is_symlink() and path.is_file() and CARD_MARK.encode() in path.read_bytes()
    except OSError:
        return False


def write_card(root: Path) -> bool:
    """Write the card; whether it is cook's. Warns, and leaves it alone, if it is not. Raises OutputError."""
    path = root / CARD_NAME
    with contextlib.suppress(OSError):
        if (
            is_own_card(path)
            and path.read_bytes() == render_card(read_manifests(root)).encode()
            and not os.path.lexists(root / WORK_DIR)
        ):
            return True  # also where nothing can be written
    try:
        with locked(root / WORK_DIR / ".card.lock", f"{path}: another run is writing it", wait=True):
            if os.path.lexists(path) and not is_own_card(path):
                warnings.warn(f"{path}: cook did not write it, so it is left as it is", CardWarning, stacklevel=2)
                return False
            text = render_card(read_manifests(root)).encode()
            if not path.exists() or path.read_bytes() != text:
                for left in (root / WORK_DIR).glob(f".{CARD_NAME}.*.tmp"):  # by a run that was killed
                    if re.fullmatch(re.escape(f".{CARD_NAME}") + owned.TEMPORARY_SUFFIX, left.name):
                        left.unlink()
                owned.replace_atomically(path, text, root / WORK_DIR)
                fsync_folder(root)
            return True
    except OSError as exc:
        raise write_error(path, exc) from exc
    finally:
        remove_stale(root)
        remove_empty_work_dir(root)


def render_card(manifests: dict[str, dict[str, Any]]) -> str:
    """The card's text."""
    names = list(manifests)
    with_sequences = {name: found for name, found in manifests.items() if kinds.kind_of(found).content == "sequences"}
    tokenizers = sorted({found["tokenizer"]["name"] for found in with_sequences.values()})
    yaml = []
    for name, found in manifests.items():
        yaml += [f"- config_name: {json.dumps(name)}", "  data_files:"]
        for split in sorted({output["split"] for output in found["outputs"] if "split" in output}):
            of_split = next(output["name"] for output in found["outputs"] if output.get("split") == split)
            files = f"{name}/{split}-*{Path(of_split).suffix}"
            yaml += [f"  - split: {split}", f"    path: {json.dumps(files)}"]
    table = [
        "| dataset | sequences | tokens | trained | max length | packing |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in with_sequences.items():
        counts, recipe = found["counts"], found["recipe"]
        table.append(
            f"| {name} | {counts['sequences']:,} | {counts['tokens']:,} | {counts['trained_tokens']:,} "
            f"| {recipe['max_length']:,} | {recipe['packing']} |"
        )
    if len(with_sequences) < len(manifests):
        table = [*table, ""] if with_sequences else []
        table += ["| dataset | texts | letters | pairs in them |", "| --- | --- | --- | --- |"]
        for name in names:
            if name not in with_sequences:
                counts = manifests[name]["counts"]
                pairs = sum(counts["kinds"].values())
                table.append(f"| {name} | {counts['texts']:,} | {counts['letters']:,} | {pairs:,} |")
    example = json.dumps(names[0]) if names else '"squad"'
    title, columns = "Training sequences, cooked", COLUMNS_TEXT
    about = f"Packed token sequences with loss masks, for {' and '.join(tokenizers) or 'a base model'}"
    if names and not with_sequences:
        title, columns = "Instruction-augmented texts", CORPUS_COLUMNS_TEXT
        about = "Contexts with questions and answers on them, as plain text for pre-training"
    sources = {name: str(found.get("source", {}).get("kind")) for name, found in manifests.items()}
    return _Card(yaml, title, about, table, f'{example}, split="train"', columns, sources).render()


def render_mix_card(found: dict[str, Any]) -> str:
    """The card's text of a mix, by its manifest."""
    split = found["mix"]["split"]
    yaml = [
        "- config_name: default",
        "  data_files:",
        f"  - split: {split}",
        f"    path: {json.dumps(f'{split}-*.parquet')}",
    ]
    table = ["| dataset | it has | given | tokens | trained |", "| --- | --- | --- | --- | --- |"]
    for name, counts in found["datasets"].items():
        given = counts["given"]
        table.append(
            f"| {name} | {counts['held']['sequences']:,} | {given['sequences']:,} | {given['tokens']:,} "
            f"| {given['trained_tokens']:,} |"
        )
    about = f"A shuffled mix of packed token sequences with loss masks, for {found['tokenizer']['name']}"
    which = " `dataset` is the dataset that a sequence is of, and `source_shard` counts in its inputs."
    sources = {row["name"]: str(row.get("source")) for row in found["sources"]}
    return _Card(
        yaml, "Training sequences, cooked and mixed", about, table, f'split="{split}"', COLUMNS_TEXT + which, sources
    ).render()


class _Card(NamedTuple):
    """What differs between the cards of a root and of a mix. Lists are lines."""

    configs: list[str]
    title: str
    about: str
    table: list[str]
    arguments: str
    """Of `load_dataset`, after the folder."""
    columns: str
    sources: dict[str, str]
    """The datasets, whose licences are listed, each with its kind of source."""

    def render(self) -> str:
        """The text of README.md."""
        values = self._asdict() | {
            "configs": "\n".join(self.configs),
            "table": "\n".join(self.table),
            "licences": "\n".join(_licence_line(name, kind) for name, kind in self.sources.items()),
        }
        return CARD_TEMPLATE.format(mark=CARD_MARK, citation=catalog.CITATION, **values)


CARD_TEMPLATE = """\
---
license: other
task_categories:
- text-generation
configs:
{configs}
---
{mark}

# {title}

{about}, made by [instruct-cook](https://pypi.org/project/instruct-cook/) from the fine-tuning collection of the \
context-based instruction synthesizer, or from data of that shape.

{table}

```python
from datasets import load_dataset

sequences = load_dataset("PATH OR HUB ID OF THIS FOLDER", {arguments})
```

{columns} `cook.json` beside the files says what they were made of.

## Licences

The texts keep the licences of their sources, which bind whoever passes these sequences on:

{licences}

## Citation

```bibtex
{citation}
```
"""


def _licence_line(name: str, source_kind: str) -> str:
    known = catalog.licence_of(name, source_kind)
    if known is None:
        return f"- {name}: not of the collection; its licence is for whoever made it to say"
    if not known.homepage:
        return f"- {name}, of the sample that comes with cook: {known.licence} ({known.obligations})"
    return f"- [{name}]({known.homepage}): {known.licence} ({known.obligations})"
