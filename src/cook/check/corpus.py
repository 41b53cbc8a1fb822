"""Corpora against their manifests and shards.

A corpus is a function of its shards, styles and seed. So `verify --deep` makes each text again and compares it; for a
packed corpus, `against_source` compares the tokens.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cook.check.against_source import compare_with_source
from cook.check.folder import FolderCheck
from cook.check.sequences import SequenceCheck
from cook.core.errors import OutputError, RecipeError
from cook.core.escapes import escape_controls
from cook.core.recipe import Recipe
from cook.core.records import entry_keys, split_entry_key
from cook.corpora import documents, text_files
from cook.corpora.documents import Document, PartInput, TextBatches, empty_part
from cook.corpora.making import corpus_strategy
from cook.corpora.recipe import WRAP, CorpusRecipe
from cook.corpora.render import CONTEXT_MODE, Rendered, Renderer
from cook.corpora.styles import MODES, Styles
from cook.encode import left_out
from cook.encode.parts import BATCH_BYTES, EncodedPart
from cook.encode.readback import excerpt
from cook.pack import planner, statistics
from cook.pipeline.context import EncodingStrategy
from cook.read.lines import ByteRange
from cook.read.source import Shard
from cook.store.kinds import SKIPPED_NAME
from cook.tokenizer.loading import Tokenizer

TEXT_POSITION_DTYPE = np.dtype(
    [("shard", "i4"), ("line", "i4"), ("entries", "i4"), ("file", "i4"), ("row", "i4")]
)  # of a text
RemadeText = tuple[int, Document, Rendered]  # the index of its shard, what it is made of, the text


class CorpusCheck(FolderCheck):
    """The part that checks of corpora share: recipe, counts, styles."""

    def _recipe(self, tokenizer: str = "none") -> CorpusRecipe | None:
        settings = dict(self.fields["recipe"])
        styles = Styles(self.fields["styles"])
        more: dict[str, Any] = {}
        if recorded := self.fields.get("tokenizer"):
            more = {"tokenizer": tokenizer, "bos": recorded["bos"] or "none", "eos": recorded["eos"]}
        self.expect_equal("recipe.styles", settings.pop("styles"), styles.sha256)
        self.expect_equal("recipe.weights", settings.pop("weights"), self.fields["styles"]["weights"])
        try:
            recipe = CorpusRecipe(**settings, datasets=(self.fields["dataset"],), styles=styles, **more)
        except (TypeError, RecipeError) as exc:
            self.manifest_finding(f"recipe: {exc}")
            return None
        self.check_settings_sealed(recipe)
        return recipe

    def check_counts(self, texts: int, entries: int | None) -> None:
        """Compare the counts of the manifest with each other and with the texts and entries (None: unknown) found."""
        counts = self.fields["counts"]
        self.expect_equal("counts.texts", counts["texts"], texts)
        self.expect_equal("counts.modes: their sum", sum(counts["modes"].values()), texts)
        if strange := counts["modes"].keys() - {*MODES, CONTEXT_MODE}:
            self.manifest_finding(
                f"counts.modes has {', '.join(sorted(strange))}; expected {', '.join((*MODES, CONTEXT_MODE))}"
            )
        chains, kinds = counts["chains"], counts["kinds"]
        more = chains.get("entries", 0) - chains.get("texts", 0)
        self.expect_equal(
            "counts.chains: entries that go on with a text", more, continued_entries(entries, texts, more)
        )
        left = self.skipped[self.skipped["unit"] < 0]
        whole = len(np.unique(entry_keys(left["shard"], left["line"])))
        self.expect_equal("counts.entries", counts["entries"], texts + more + whole)
        self.expect_equal(
            "counts.options: their sum",
            sum(counts["options"].values()),
            kinds.get("options", 0) + kinds.get("options_thought", 0),
        )
        pairs = sum(kinds.values()) + sum(counts["skipped_pairs"].values())
        if counts["pairs"] != pairs and not (counts["skipped_entries"].get("bad_line") and counts["pairs"] > pairs):
            self.manifest_finding(
                f"counts.pairs is {counts['pairs']:,}; expected {pairs:,}, the sum of counts.kinds and those left out"
            )
        if not 0 <= counts["context_after"] <= texts:
            self.manifest_finding(f"counts.context_after is {counts['context_after']:,}; expected at most {texts:,}")

    def make_renderer(self) -> Renderer | None:
        """The renderer of its texts; None, and a finding, if the styles of the manifest are wrong."""
        assert isinstance(self.recipe, CorpusRecipe)
        try:
            return Renderer(self.recipe.styles, self.recipe.seed)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as exc:
            self.manifest_finding(f"styles: are not those that cook writes: {type(exc).__name__}: {exc}")
            return None


def continued_entries(entries: int | None, texts: int, default: int) -> int:
    """The number of entries that continue a text; `default` if `entries` is not known."""
    return default if entries is None else entries - texts


class TextCheck(CorpusCheck):
    """The check of a corpus as text."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.letters = 0
        self.texts = np.empty(0, TEXT_POSITION_DTYPE)

    def contents(self) -> dict[str, int]:
        """Texts and letters."""
        return {"texts": len(self.texts), "letters": self.letters}

    def run(self, tokenizer: str | None, pool: Executor) -> None:  # noqa: ARG002 - a text has no tokens
        """Check files, rows, their order, and sums."""
        self.check_files(pool)
        self.check_file_names(self.fields["recipe"]["format"])
        self.recipe = self._recipe()
        counts = self.fields["counts"]
        modes: Counter[str] = Counter()
        places = [self.texts]
        chains = np.zeros(2, np.int64)
        for output in self._text_outputs():
            rows = []
            for number, row in self._numbered(output["name"]):
                if wrong := list(self._row_faults(row)):
                    self.findings.note(output["name"], number, "; ".join(wrong))
                    self.readable = False
                    continue
                rows.append((row["source_shard"], row["source_line"], row["entries"], len(self.names), number))
                modes[row["mode"]] += 1
                modes["after"] += row["context_after"]
                self.letters += len(row["text"])
                chains += (row["entries"] > 1, row["entries"] * (row["entries"] > 1))
            self.names.append(output["name"])
            places.append(np.array(rows, TEXT_POSITION_DTYPE))
            if self.readable:
                self.expect_equal(f"outputs: {output['name']}: rows", output["rows"], len(rows))
        self.texts = np.concatenate(places)
        if not self.readable or self.recipe is None:
            return
        self.check_skipped(self.recipe)
        self._check_order()
        self.expect_equal("counts.letters", counts["letters"], self.letters)
        self.expect_equal("counts.context_after", counts["context_after"], modes.pop("after", 0))
        self.expect_equal("counts.modes", counts["modes"], {mode: modes[mode] for mode in sorted(modes)})
        there = {name: int(count) for name, count in zip(("texts", "entries"), chains, strict=True) if count}
        self.expect_equal("counts.chains", {k: v for k, v in counts["chains"].items() if k != "broken"}, there)
        self.check_counts(len(self.texts), int(self.texts["entries"].sum()))

    def _text_outputs(self) -> list[dict[str, Any]]:
        return [output for output in self.row_files() if output["name"] not in self.damaged]

    def _numbered(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of a file: of Parquet from 0, lines from 1."""
        return enumerate(self._read_rows(name), int(not name.endswith(".parquet")))

    def _read_rows(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            yield from text_files.read_text_rows(self.folder / name)
        except OutputError as exc:
            self.findings.note(name, None, str(exc).removeprefix(escape_controls(f"{self.folder / name}: ")))
            self.readable = False

    def _row_faults(self, row: Any) -> Iterator[str]:
        """What is wrong with a row."""
        if not isinstance(row, dict) or [*row] != [*text_files.TEXT_COLUMNS]:
            yield f"its columns are {', '.join(map(str, row))}; expected {', '.join(text_files.TEXT_COLUMNS)}"
            return
        for name, kind in text_files.TEXT_COLUMNS.items():
            if type(row[name]) is not kind:
                yield f"{name} is {row[name]!r}; expected {text_files.TYPE_NAMES[kind]}"
                return
        if not row["text"]:
            yield "text is empty; expected at least one letter"
        if row["mode"] not in (*MODES, CONTEXT_MODE):
            yield f"mode is {row['mode']!r}; expected one of {', '.join((*MODES, CONTEXT_MODE))}"
        if row["mode"] == CONTEXT_MODE and row["context_after"]:
            yield "context_after is true; expected false without pairs"
        for name, low, high in (
            ("entries", 1, left_out.MAX_INT),
            ("source_shard", 0, len(self.fields["inputs"]) - 1),
            ("source_line", 1, left_out.MAX_INT),
        ):
            if not low <= row[name] <= high:
                yield f"{name} is {row[name]}; expected {low} to {high}"

    def _check_order(self) -> None:
        keys = entry_keys(self.texts["shard"], self.texts["line"])
        for at in np.flatnonzero(np.diff(keys) <= 0)[:20].tolist():
            row = self.texts[at + 1]
            where = self.entry_location(int(row["shard"]), int(row["line"]))
            what = (
                f"{where}: stands after "
                f"{self.entry_location(int(self.texts[at]['shard']), int(self.texts[at]['line']))}"
            )
            self.findings.note(self.names[row["file"]], int(row["row"]), f"{what}; expected the order of the shards")

    def render_again(self, shards: list[Shard]) -> Iterator[list[RemadeText]]:
        """The texts that the shards give, in batches; then compare the counts and what was left out."""
        assert isinstance(self.recipe, CorpusRecipe)
        recipe = dataclasses.replace(self.recipe, on_error="skip")
        if (renderer := self.make_renderer()) is None:
            return
        parts: list[EncodedPart] = []
        left = recipe.limit
        for index, shard in enumerate(shards):
            if left is not None and left <= 0:
                break
            result = empty_part()
            batches = TextBatches(renderer, result, BATCH_BYTES).render_batches(
                PartInput(recipe, ByteRange(str(shard.path), 0, None), left)
            )
            for read, made in batches:
                yield [(index, *both) for both in zip(read, made, strict=True)]
            left = None if left is None else left - result.entries
            parts.append(result)
            self._compare_left_out(index, result)
        expected = documents.corpus_counts(parts) | {
            "entries": sum(part.entries for part in parts),
            "pairs": sum(part.units for part in parts),
        }
        for key, value in expected.items():
            self.expect_equal(f"counts.{key}", self.fields["counts"][key], value)

    def _compare_left_out(self, index: int, result: EncodedPart) -> None:
        rows = self.skipped[self.skipped["shard"] == index]
        fields = ["line", "unit", "reason", "units", "tokens"]
        recorded, expected = (sorted(table[fields].tolist()) for table in (rows, result.skipped))
        for row in sorted({*map(tuple, recorded)} ^ {*map(tuple, expected)})[:20]:
            here = "is not left out; expected so" if row in recorded else "is left out and not recorded"
            what = "the entry" if row[1] < 0 else f"pair {row[1]}"
            self.findings.note(SKIPPED_NAME, None, f"{self.entry_location(index, row[0])}: {what} {here}")

    def compare_with_source(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:  # noqa: ARG002
        """Make each text again, and compare it with its row."""
        there = ((output["name"], *each) for output in self._text_outputs() for each in self._numbered(output["name"]))
        row = next(there, None)
        for batch in self.render_again(shards):
            for shard, document, made in batch:
                place = shard, document.line
                while row and (row[2]["source_shard"], row[2]["source_line"]) < place:
                    self.findings.note(row[0], row[1], "is not a text of the shards; expected only their texts")
                    row = next(there, None)
                if not row or (row[2]["source_shard"], row[2]["source_line"]) != place:
                    self.manifest_finding(f"{self.entry_location(*place)}: its text is missing; expected once")
                    continue
                expected = text_files.text_row(shard, document.line, document, made)
                for name in text_files.TEXT_COLUMNS:
                    if row[2][name] != expected[name]:
                        self.findings.note(
                            row[0],
                            row[1],
                            f"{self.entry_location(*place)}: {describe_difference(name, row[2][name], expected[name])}",
                        )
                row = next(there, None)
        for name, number, _ in (row, *there) if row else ():
            self.findings.note(name, number, "is not a text of the shards; expected only their texts")


def describe_difference(name: str, there: Any, expected: Any) -> str:
    """The two values of a column; of texts, excerpts from a little before the first difference."""
    shown = [repr(there), repr(expected)]
    if isinstance(there, str) and name == "text":
        there, expected = there.encode(errors="replace"), expected.encode(errors="replace")
        shown = [excerpt(there, expected), excerpt(expected, there)]
    return f"{name} is {shown[0]}; expected {shown[1]}"


class PackedCheck(CorpusCheck, SequenceCheck):
    """The check of a packed corpus. Each example is a piece of a text."""

    def contents(self) -> dict[str, int]:
        """Sequences, texts, pieces and tokens."""
        held = super().contents()
        return {
            "sequences": held["sequences"],
            "texts": len(np.unique(self._places)),
            "examples": held["examples"],
            "tokens": held["tokens"],
        }

    @functools.cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        return entry_keys(self.examples["shard"], self.examples["line"])

    @functools.cached_property
    def _tokens_by_text(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The keys of texts, sorted, and the tokens of each."""
        places, of = np.unique(self._places, return_inverse=True)
        return places, np.bincount(of.ravel(), self.examples["tokens"], len(places)).astype(np.int64)

    def _check_entries(self, recipe: Recipe, total: statistics.PackingStats) -> None:  # noqa: ARG002 - of examples, see Check
        places, tokens = self._tokens_by_text
        counts = self.fields["counts"]
        self.expect_equal("figures.longest_entry", self.fields["figures"]["longest_entry"], int(tokens.max()))
        for key in ("split", "truncated"):
            self.expect_equal(f"counts.{key}", counts[key], 0)
        self.check_counts(len(places), None)
        left = self.skipped[self.skipped["unit"] < 0]
        for place in np.intersect1d(places, entry_keys(left["shard"], left["line"]))[:20].tolist():
            entry = self.entry_location(*split_entry_key(place))
            self.findings.note(SKIPPED_NAME, None, f"leaves out {entry}, which has a text")
        self._check_pieces(recipe)

    def _check_pieces(self, recipe: Recipe) -> None:
        """Check that each text has one first and one last piece, and that sequences are full under wrap."""
        has_bos = self.fields["tokenizer"]["bos_id"] is not None
        begins, ends = self.examples["trained"] < self.examples["tokens"], self.examples["ends"]
        of = np.searchsorted(self._tokens_by_text[0], self._places)
        for flags, what in ((begins, "BOS"), (ends, "EOS")):
            if what == "BOS" and not has_bos:
                continue
            found = np.bincount(of, flags, len(self._tokens_by_text[0])).astype(np.int64)
            for text in np.flatnonzero(found != 1)[:20].tolist():
                example = int(np.flatnonzero(of == text)[0])
                self.example_finding(example, f"its text has {found[text]} pieces with {what}; expected one")
        if recipe.packing == WRAP:
            sizes = [(name, row, size) for name in self.names for row, size in enumerate(self.sizes[name].tolist())]
            for name, row, size in sizes[:-1]:
                if size != recipe.max_length:
                    what = f"has {size:,} tokens; expected {recipe.max_length:,}, as all but the last under wrap"
                    self.findings.note(name, row, what)

    def check_plan(self, recipe: Recipe) -> None:
        """Compare the sequences with the plan that the recipe gives for these texts, cut into pieces."""
        places, tokens = self._tokens_by_text
        pieces = planner.cut_at_length(tokens, recipe.max_length, 0 if recipe.packing == WRAP else None)
        made = planner.plan(pieces.length, recipe.max_length, recipe.packing, recipe.seed)
        if len(made.order) != len(self.examples):
            what = f"expected {len(made.order):,} pieces by --packing {recipe.packing}"
            self.manifest_finding(f"outputs: hold {len(self.examples):,} pieces of texts; {what}")
            return
        text, begin, size = (each[made.order] for each in pieces)
        same = (places[text] == self._places) & (size == self.examples["tokens"])
        same &= (begin + size == tokens[text]) == self.examples["ends"]
        if self.fields["tokenizer"]["bos_id"] is not None:
            same &= (begin == 0) == (self.examples["trained"] < self.examples["tokens"])
        self.expect_planned(recipe, np.arange(len(same)), same, made.starts)

    @property
    def strategy(self) -> EncodingStrategy:
        """How entries became pieces, for `compare_with_source`."""
        assert self.recipe is not None
        return corpus_strategy(self.recipe)

    def compare_with_source(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:
        """Encode the texts again, and compare every piece."""
        if self.make_renderer() is not None:
            compare_with_source(self, shards, tokenizer, pool)
