"""The recipe of a corpus: a run's, without what pairs alone need, and with styles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from cook.core.choices import CORPUS_PACKINGS
from cook.core.recipe import SETTING_CHECKS, Recipe
from cook.corpora.styles import Styles, read_styles

WRAP = "wrap"
TEXT_FORMATS = ("jsonl", "parquet")
NO_TOKENIZER = "none"  # the tokenizer of a corpus that is text
# Settings of a Recipe that a corpus does not use.
PAIR_SETTINGS = ("context_template", "pair_template", "delimiter", "overlong", "validation", "dedup")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusRecipe(Recipe):
    """The complete configuration of a corpus; the same defaults as `cook corpus`, and those of Recipe beside them.

    With a tokenizer the result is packed sequences, else text. Raises RecipeError, listing every setting that is
    wrong, when it is made.
    """

    datasets: tuple[str, ...] = ("all",)
    tokenizer: str = NO_TOKENIZER
    styles: Styles = dataclasses.field(default_factory=read_styles)
    """The styles of texts; `cook.read_styles(FILE)` reads those of a file."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """The format of text; packed sequences are always Parquet."""

    checks: ClassVar[Mapping[str, Callable[[Any], str | None]]] = SETTING_CHECKS | {
        "packing": lambda value: None if value in CORPUS_PACKINGS else f"must be one of {', '.join(CORPUS_PACKINGS)}",
        "styles": lambda value: None if isinstance(value, Styles) else "must be what read_styles gives",
        "executor": lambda value: None if value == "local" else "must be local: a corpus is made on this machine",
        "format": lambda value: None if value in TEXT_FORMATS else f"must be one of {', '.join(TEXT_FORMATS)}",
    }

    @property
    def is_text(self) -> bool:
        """Whether the result is text, not tokens."""
        return self.tokenizer == NO_TOKENIZER

    def determining(self) -> dict[str, Any]:
        """The settings that determine bytes; styles are given by their hash."""
        settings = super().determining()
        left_out = {*PAIR_SETTINGS, *(("max_length", "packing") if self.is_text else ("format",))}
        return {name: value for name, value in settings.items() if name not in left_out} | {
            "styles": self.styles.sha256,
            "weights": self.styles.data["weights"],
        }
