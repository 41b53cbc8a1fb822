"""Datasets of sequences against their manifests: settings, rows, sums, and the plan that the recipe gives."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import Executor
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from cook.check import rows
from cook.check.folder import FolderCheck
from cook.check.rows import CHECKED_EXAMPLE_DTYPE, FileContents, RowRules
from cook.core.arrays import offsets
from cook.core.errors import RecipeError, TokenizerError
from cook.core.recipe import Recipe
from cook.core.records import SKIP_REASONS, entry_keys, split_entry_key
from cook.executors.local import ordered_results
from cook.pack import statistics
from cook.pack.planner import plan
from cook.pack.splits import infer_splits
from cook.pipeline.context import EncodingStrategy
from cook.pipeline.figures import fill_figures
from cook.shapes.protocol import MaskRule
from cook.store import kinds
from cook.tokenizer.loading import resolve_tokenizer
from cook.tokenizer.presets import find_preset


class SequenceCheck(FolderCheck):
    """The check of an output of packed sequences."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.examples = np.empty(0, CHECKED_EXAMPLE_DTYPE)
        self.split_of: list[str] = []
        """The split of each file."""
        self.sizes: dict[str, npt.NDArray[np.int64]] = {}
        """The tokens of each row, by file."""
        self.datasets: list[str] = []
        """The dataset of each row of a mix."""
        self.seed = int.from_bytes(os.urandom(8), "little")
        """The seed of the hashes of examples; see `hashing`."""

    def run(self, tokenizer: str | None, pool: Executor) -> None:
        """Check files, settings, rows and sums."""
        self.check_files(pool)
        self.check_settings(tokenizer)
        self.check_rows(pool)
        if self.recipe is not None and self.readable:
            self.check_totals(self.recipe)

    def contents(self) -> dict[str, int]:
        """The number of sequences, examples and tokens."""
        return {
            "sequences": sum(map(len, self.sizes.values())),
            "examples": len(self.examples),
            "tokens": sum(int(sizes.sum()) for sizes in self.sizes.values()),
        }

    def check_files(self, pool: Executor) -> None:
        """Check the files as of any folder, and the names of each split's files."""
        super().check_files(pool)
        self.check_file_names("parquet")

    def check_settings(self, tokenizer: str | None) -> None:
        """Compare recipe, tokenizer and inputs of the manifest with each other, and set `recipe`."""
        self.check_special_ids()
        recorded = self.fields["tokenizer"]
        self.recipe = self._recipe(tokenizer or recorded["name"])
        preset = find_preset(recorded["name"])
        if preset and preset.fingerprint == recorded["fingerprint"] and self.recipe is not None:
            try:
                self.check_tokenizer(resolve_tokenizer(dataclasses.replace(self.recipe, tokenizer=preset.name)))
            except TokenizerError as exc:
                self.manifest_finding(f"tokenizer: {exc}")
        names = [row["name"] for row in self.fields["inputs"]]
        if len(set(names)) < len(names) or not names:
            self.manifest_finding("inputs: expected each shard once")
        if not isinstance(self.fields.get("source"), dict):
            self.manifest_finding(f"source is {self.fields.get('source')!r}; expected the kind of source")
            self.recipe = None

    def check_special_ids(self) -> None:
        """Check that the ids of the manifest's tokenizer agree with each other."""
        recorded = self.fields["tokenizer"]
        bos, eos, specials = recorded["bos_id"], recorded["eos_id"], recorded["special_ids"]
        if specials != sorted({*specials, eos, *([] if bos is None else [bos])}):
            self.manifest_finding("tokenizer.special_ids: expected ascending ids, with those of BOS and EOS among them")
        if (recorded["bos"] is None) != (bos is None):
            self.manifest_finding(
                f"tokenizer.bos_id is {bos!r}, and tokenizer.bos {recorded['bos']!r}; expected both or neither"
            )
        if not 0 <= recorded["pad_id"] < recorded["vocab_size"]:
            self.manifest_finding(
                f"tokenizer.pad_id is {recorded['pad_id']}; expected an id below {recorded['vocab_size']:,}"
            )

    def _recipe(self, tokenizer: str) -> Recipe | None:
        recorded = self.fields["tokenizer"]
        settings = {"splits": "all-train"} | self.fields["recipe"]
        others = {*infer_splits(self.fields["dataset"], [row["name"] for row in self.fields["inputs"]])} != {"train"}
        self.expect_equal("recipe has splits", "splits" in self.fields["recipe"], others)
        try:
            recipe = Recipe(
                **settings,
                datasets=self.fields["dataset"],
                tokenizer=tokenizer,
                bos="none" if recorded["bos"] is None else recorded["bos"],
                eos=recorded["eos"],
            )
        except (TypeError, RecipeError) as exc:
            self.manifest_finding(f"recipe: {exc}")
            return None
        self.check_settings_sealed(recipe)
        return recipe

    @property
    def strategy(self) -> EncodingStrategy:
        """How entries became examples, for `compare_with_source`."""
        return EncodingStrategy(shape=self.fields["shape"])

    def row_limits(self) -> tuple[dict[str | None, int], dict[str | None, MaskRule], int | None]:
        """The longest sequence and the mask rule, by dataset in a mix and else under None; the number of shards."""
        longest: dict[str | None, int] = {None: self.fields["recipe"]["max_length"]}
        return longest, {None: mask_rule(self.fields)}, len(self.fields["inputs"])

    def _row_rules(self) -> RowRules:
        recorded = self.fields["tokenizer"]
        specials = np.zeros(min(max(recorded["vocab_size"], 1), 1 << 24), bool)
        specials[[i for i in recorded["special_ids"] if 0 <= i < len(specials) and i != recorded.get("unk_id")]] = True
        longest, mask_rules, shards = self.row_limits()
        return RowRules(
            len(specials), recorded["bos_id"], recorded["eos_id"], specials, longest, shards, mask_rules, self.seed
        )

    def check_rows(self, pool: Executor) -> None:
        """Check every row of every file, and the sums of each file."""
        row_rules, tables, outputs = self._row_rules(), [self.examples], self.row_files()
        jobs = [
            rows.split_into_jobs(self.folder / output["name"], output["bytes"], row_rules)
            if output["name"] not in self.damaged
            else []
            for output in outputs
        ]
        done = (
            share
            for _, share in ordered_results(pool, rows.check_rows, ((0, job) for of_file in jobs for job in of_file))
        )
        for output, of_file in zip(outputs, jobs, strict=True):
            name = output["name"]
            self.names.append(name)
            self.split_of.append(output["split"])
            self.sizes[name] = np.empty(0, np.int64)
            if not of_file:
                continue
            held = FileContents.from_shares(list(islice(done, len(of_file))))
            self.findings.add(held.findings)
            held.examples["file"] = len(self.names) - 1
            tables.append(held.examples)
            self.sizes[name] = held.sizes
            self.datasets += held.datasets
            self.readable &= held.readable
            if held.readable:
                self._check_file_totals(output, held)
        self.examples = np.concatenate(tables)

    def _check_file_totals(self, output: dict[str, Any], held: FileContents) -> None:
        where = f"outputs: {output['name']}: "
        self.expect_equal(where + "rows", output["rows"], len(held.sizes))
        self.expect_equal(where + "tokens", output["tokens"], int(held.sizes.sum()))
        self.expect_equal(
            where + "trained_tokens", output["trained_tokens"], int(held.examples["trained"].sum(dtype=np.int64))
        )

    def packing_stats(self) -> dict[str, statistics.PackingStats]:
        """The packing statistics of each split, from its rows."""
        made = {}
        for split in dict.fromkeys(self.split_of):
            files = [index for index, name in enumerate(self.split_of) if name == split]
            of_split = self.examples[np.isin(self.examples["file"], files)]
            sizes = np.concatenate([self.sizes[self.names[index]] for index in files])
            trained = int(of_split["trained"].sum(dtype=np.int64))
            made[split] = statistics.PackingStats(
                trained,
                statistics.IntHistogram.from_values(of_split["tokens"]),
                statistics.IntHistogram.from_values(sizes),
            )
        return made

    def check_totals(self, recipe: Recipe) -> None:
        """Check counts and figures of the manifest against the rows, and skipped.jsonl."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        made = self.packing_stats()
        if not made or not len(self.examples):
            self.manifest_finding("outputs: expected at least one sequence")
            self.readable = False
            return
        total = statistics.PackingStats.merge(list(made.values()))
        for key, value in total.counts().items():
            self.expect_equal(f"counts.{key}", counts[key], value)
        splits = {name: split.counts() for name, split in made.items()} if len(made) > 1 else None
        self.expect_equal("counts.splits", counts.get("splits"), splits)
        for key, value in fill_figures(total, recipe.max_length).items():
            self.expect_equal(f"figures.{key}", figures.get(key), value)
        self.check_skipped(recipe)
        self._check_entries(recipe, total)

    def _check_entries(self, recipe: Recipe, total: statistics.PackingStats) -> None:
        """Check the counts of entries and pairs against the examples and skipped.jsonl together."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        places = entry_keys(self.examples["shard"], self.examples["line"])
        entries, first = np.unique(places, return_index=True)
        whole = self.skipped[self.skipped["unit"] < 0]
        left = np.unique(entry_keys(whole["shard"], whole["line"]))
        self.expect_equal("counts.entries", counts["entries"], len(entries) + len(left))
        both = np.intersect1d(entries, left)
        for place in both[:20].tolist():
            entry = self.entry_location(*split_entry_key(place))
            self.findings.note(kinds.SKIPPED_NAME, None, f"leaves out {entry}, which has examples")
        if recipe.limit and counts["entries"] > recipe.limit:
            self.manifest_finding(
                f"counts.entries is {counts['entries']:,}; expected at most the recipe's limit, {recipe.limit:,}"
            )
        if recipe.overlong not in ("split", "truncate"):
            for example in np.setdiff1d(np.arange(len(places)), first).tolist():
                self.example_finding(example, "stands elsewhere already; expected once")
        if not (counts["split"] or (self.skipped["reason"] == SKIP_REASONS.index("overlong")).any()):
            self.expect_equal("figures.longest_entry", figures["longest_entry"], int(total.lengths.values[-1]))
        if counts["pairs"] < len(self.examples) + sum(counts["skipped_pairs"].values()):
            self.manifest_finding(
                f"counts.pairs is {counts['pairs']:,}; expected at least one an example, and those left out"
            )

    def example_finding(self, example: int, what: str) -> None:
        """Add a finding on an example, by its row and entry."""
        row = self.examples[example]
        where = self.entry_location(int(row["shard"]), int(row["line"]))
        self.findings.note(self.names[row["file"]], int(row["row"]), f"{where}: {what}")

    @property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """The number of each file's first row, counted over all files."""
        return offsets([len(self.sizes[name]) for name in self.names])

    def check_plan(self, recipe: Recipe) -> None:
        """Compare the sequences of each split with the plan that the recipe gives for its examples.

        A split is passed over if an entry has several examples and the plan orders by size: the output alone does
        not tell their order.
        """
        for split in dict.fromkeys(self.split_of):
            files = [index for index, name in enumerate(self.split_of) if name == split]
            chosen = np.flatnonzero(np.isin(self.examples["file"], files))
            examples = self.examples[chosen]
            order = np.lexsort((examples["line"], examples["shard"]))
            same = (np.diff(examples["line"][order]) == 0) & (np.diff(examples["shard"][order]) == 0)
            if same.any() and recipe.packing in ("best-fit", "best-fit-decreasing"):
                continue
            planned = plan(examples["tokens"][order].astype(np.int64), recipe.max_length, recipe.packing, recipe.seed)
            self.expect_planned(recipe, chosen, order[planned.order] == np.arange(len(order)), planned.starts)

    def expect_planned(
        self,
        recipe: Recipe,
        examples: npt.NDArray[np.int64],
        same: npt.NDArray[np.bool_],
        starts: npt.NDArray[np.int64],
    ) -> bool:
        """Add a finding on the first of a split's examples that the plan has elsewhere; return whether there is none.

        `same` flags the examples that the plan has in the same place; `starts` are the plan's starts of sequences.
        """
        rows_of = self.first_rows[self.examples["file"][examples]] + self.examples["row"][examples]
        ends = np.append(np.flatnonzero(np.diff(rows_of)) + 1, len(rows_of))
        shared = min(len(ends), len(starts) - 1)
        wrong = np.flatnonzero(~same)[:1].tolist()
        wrong += (ends[np.flatnonzero(ends[:shared] != starts[1 : shared + 1])[:1]] - 1).tolist()
        if not wrong and len(ends) == len(starts) - 1:
            return True
        at = min(wrong) if wrong else len(examples) - 1
        self.example_finding(
            int(examples[at]), f"expected another example here by --packing {recipe.packing} and the seed"
        )
        return False


def mask_rule(fields: dict[str, Any]) -> MaskRule:
    """The mask rule in a dataset's fields of a manifest. Raises ValueError if it is not one."""
    rule: MaskRule = fields["mask_rule"]
    if rule not in get_args(MaskRule):
        raise ValueError(f"mask_rule is {rule!r}; expected one of {', '.join(get_args(MaskRule))}")
    return rule
