"""The text of USE.md, the page beside an export: how a trainer reads the files, and which settings go wrong silently.

`usage/TARGET.md` holds the page of each target, with facts of the export in {braces}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cook.trainers.olmo import id_dtype
from cook.trainers.tables import llama_factory_length

NAME = "USE.md"
PAGES = Path(__file__).with_suffix("")

ATTENTION = {
    "isolated": "`position_ids` begin again at each example (and at the pads): no example sees another.",
    "few-shot": "`position_ids` run through the sequence: later examples see earlier ones, as demonstrations.",
}


def usage_page(manifest: dict[str, Any]) -> str:
    """The page of an export, from the manifest fields that determine the export's bytes."""
    settings, tokenizer = manifest["export"], manifest["tokenizer"]
    facts = {
        "split": settings["split"],
        "max_length": settings["max_length"],
        "llama_factory_length": llama_factory_length(settings["max_length"]),
        "attention": ATTENTION.get(settings["attention"], ""),
        "dtype": id_dtype(tokenizer["vocab_size"]).__name__,
        "bos": "" if tokenizer["bos_id"] is None else f", bos_token_id={tokenizer['bos_id']}",
        **{key: tokenizer[key] for key in ("vocab_size", "pad_id", "eos", "eos_id")},
    }
    title = f"# {settings['target']}: {manifest['source']['name']}, {settings['split']}"
    about = f"Made by `cook export`. The ids are of the tokenizer {tokenizer['name']}; use no other."
    page = (PAGES / f"{settings['target']}.md").read_text(encoding="utf-8")
    return f"{title}\n\n{about}\n\n{page.format(**facts)}"
