"""What is cooked against its own manifest: files, settings, rows, sums, and the plan that the recipe makes.

Files are hashed, and their rows checked, by jobs of an executor. A file whose hash is not the manifest's is not looked
into: it is a finding by itself.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from concurrent.futures import Executor
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import orjson

from cook.check import rows
from cook.check.rows import CHECKED_EXAMPLE_DTYPE, FileContents, Findings, RowRules
from cook.core import records
from cook.core.errors import CookError, RecipeError, SourceError, TokenizerError
from cook.core.files import sha256_of
from cook.core.recipe import Recipe
from cook.core.records import SKIP_REASONS
from cook.encode import left_out
from cook.executors.local import ordered_results
from cook.pack import mix_plan, statistics
from cook.pack.planner import plan
from cook.pack.splits import infer_splits
from cook.pipeline.context import EncodingStrategy
from cook.pipeline.figures import fill_figures
from cook.read.source import Shard
from cook.shapes.protocol import MaskRule
from cook.store import columns, dataset_card, kinds, manifest
from cook.tokenizer.loading import Tokenizer, resolve_tokenizer
from cook.tokenizer.presets import find_preset


class FolderCheck:
    """The check of one folder: of a dataset, or of a mix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fields: dict[str, Any] = {}
        self.findings = Findings()
        self.recipe: Recipe | None = None
        self.readable = True
        """Whether all files could be read and taken apart: what holds of sums is asked only then."""
        self.examples = np.empty(0, CHECKED_EXAMPLE_DTYPE)
        self.split_of: list[str] = []
        """The split of each file."""
        self.names: list[str] = []
        """The name of each file."""
        self.sizes: dict[str, npt.NDArray[np.int64]] = {}
        """Tokens of each row of a file."""
        self.datasets: list[str] = []
        self.skipped = np.empty(0, records.SKIPPED_RECORD_DTYPE)
        self.damaged: set[str] = set()
        self.seed = int.from_bytes(os.urandom(8), "little")
        """Of the hashes of examples; see `hashing`."""

    @property
    def why_not_comparable(self) -> str:
        """Why it cannot be compared with shards; empty where it can."""
        return self.kind.why_not_comparable

    @property
    def kind(self) -> kinds.Kind:
        """The kind of its manifest; a dataset's where that could not be read."""
        return kinds.kind_of(self.fields or {"kind": kinds.DATASET})

    @property
    def mixed(self) -> bool:
        """Whether it is a mix."""
        return self.kind.name == kinds.MIX

    def manifest_finding(self, what: str) -> None:
        """Note something about the manifest."""
        self.findings.note(manifest.MANIFEST_NAME, None, what)

    def expect_equal(self, where: str, is_now: Any, expected: Any) -> None:
        """Note a field of the manifest that is not what was found."""
        if is_now != expected or type(is_now) is not type(expected):
            self.manifest_finding(f"{where} is {is_now!r}; expected {expected!r}")

    def check_files(self, pool: Executor) -> None:
        """Sizes and hashes of the files that the manifest names, and that there are no others beside them."""
        outputs = self.fields["outputs"]
        named = {output["name"] for output in outputs}
        file_rows = ((0, (self.folder / output["name"], output["bytes"], output["sha256"])) for output in outputs)
        for (_, (path, _, _)), what in ordered_results(pool, file_damage, file_rows):
            if what:
                self._note_damage(path.name, what)
        own_files = named | {manifest.MANIFEST_NAME} | ({dataset_card.CARD_NAME} if self.mixed else set())
        for path in sorted(self.folder.iterdir()):
            if path.name not in own_files and not path.name.startswith("."):
                self.findings.note(path.name, None, "is here; expected only the files that the manifest names")
        by_split: dict[str, list[str]] = {}
        for output in outputs:
            if output["name"] != kinds.SKIPPED_NAME:
                by_split.setdefault(output.get("split"), []).append(output["name"])
        for split, names in by_split.items():
            expected = self.file_names(len(names), str(split))
            if names != expected:
                self.manifest_finding(
                    f"outputs: of split {split} are {', '.join(names[:3])}; expected {', '.join(expected[:3])}"
                )
        if self.mixed:
            there = (
                (self.folder / dataset_card.CARD_NAME).read_bytes()
                if (self.folder / dataset_card.CARD_NAME).exists()
                else None
            )
            if there != dataset_card.render_mix_card(self.fields).encode():
                self.findings.note(dataset_card.CARD_NAME, None, "is not the card that cook wrote with this mix")

    def file_names(self, count: int, split: str) -> list[str]:
        """What so many files of a split are called."""
        return columns.file_names(count, split)

    def _note_damage(self, name: str, what: str) -> None:
        self.findings.note(name, None, what)
        self.damaged.add(name)
        self.readable = False

    def check_settings(self, tokenizer: str | None) -> None:
        """What the manifest says of recipe and tokenizer, held against each other."""
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
        if self.mixed:
            return
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

    def check_tokenizer(self, found: Tokenizer) -> None:
        """Hold what the manifest says of the tokenizer against the tokenizer."""
        recorded = self.fields["tokenizer"]
        for field in ("vocab_size", "bos", "bos_id", "eos", "eos_id", "pad_id", "unk_id"):
            self.expect_equal(f"tokenizer.{field}", recorded.get(field), getattr(found, field))
        self.expect_equal("tokenizer.special_ids", recorded["special_ids"], [i for _, i in found.specials])

    def _recipe(self, tokenizer: str) -> Recipe | None:
        recorded = self.fields["tokenizer"]
        settings = dict(self.fields["recipe"])
        of_names = settings.pop("splits", "all-train")
        others = {*infer_splits(self.fields["dataset"], [row["name"] for row in self.fields["inputs"]])} != {"train"}
        self.expect_equal("recipe has splits", "splits" in self.fields["recipe"], others)
        try:
            recipe = Recipe(
                **settings,
                splits=of_names,
                datasets=self.fields["dataset"],
                tokenizer=tokenizer,
                bos="none" if recorded["bos"] is None else recorded["bos"],
                eos=recorded["eos"],
            )
        except (TypeError, RecipeError) as exc:
            self.manifest_finding(f"recipe: {exc}")
            return None
        if orjson.dumps(recipe.determining(), option=orjson.OPT_SORT_KEYS) != orjson.dumps(
            settings, option=orjson.OPT_SORT_KEYS
        ):
            self.manifest_finding(
                "recipe: expected every setting that determines bytes, in the form that cook writes it"
            )
        return recipe

    @property
    def strategy(self) -> EncodingStrategy:
        """How its entries became examples, for `compare_with_source`."""
        return EncodingStrategy(shape=self.fields["shape"])

    def _row_rules(self) -> RowRules:
        fields = self.fields
        recorded = fields["tokenizer"]
        specials = np.zeros(min(max(recorded["vocab_size"], 1), 1 << 24), bool)
        specials[[i for i in recorded["special_ids"] if 0 <= i < len(specials) and i != recorded.get("unk_id")]] = True
        mixed = self.mixed
        longest = (
            {row["name"]: row["max_length"] for row in fields["sources"]}
            if mixed
            else {None: fields["recipe"]["max_length"]}
        )
        rules: dict[str | None, MaskRule] = {} if mixed else {None: _mask_rule(fields)}
        rules |= {row["name"]: _mask_rule(row) for row in fields["sources"]} if mixed else {}
        inputs = None if mixed else len(fields["inputs"])
        return RowRules(
            len(specials), recorded["bos_id"], recorded["eos_id"], specials, longest, inputs, rules, self.seed
        )

    def check_rows(self, pool: Executor) -> None:
        """Every row of every file, and each file's own sums."""
        terms, tables = self._row_rules(), [self.examples]
        outputs = [output for output in self.fields["outputs"] if output["name"] != kinds.SKIPPED_NAME]
        jobs = [
            rows.split_into_jobs(self.folder / output["name"], output["bytes"], terms)
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
        """What became of each split."""
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
        """Counts and figures of the manifest, as far as its own files tell them; and skipped.jsonl."""
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
        self._check_skipped(recipe)
        self._check_entries(recipe, total)

    def _check_entries(self, recipe: Recipe, total: statistics.PackingStats) -> None:
        """What the examples and skipped.jsonl together say of entries and pairs."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        places = entry_keys(self.examples)
        entries, first = np.unique(places, return_index=True)
        whole = self.skipped[self.skipped["unit"] < 0]
        left = np.unique(entry_keys(whole))
        self.expect_equal("counts.entries", counts["entries"], len(entries) + len(left))
        both = np.intersect1d(entries, left)
        for place in both[:20].tolist():
            entry = self.entry_location(place >> 32, place & left_out.MAX_INT)
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

    def entry_location(self, shard: int, line: int) -> str:
        """An entry's shard and line, in words."""
        inputs = self.fields["inputs"]
        return f"{inputs[shard]['name'] if 0 <= shard < len(inputs) else shard}:{line}"

    def example_finding(self, example: int, what: str) -> None:
        """Note something about an example."""
        row = self.examples[example]
        where = self.entry_location(int(row["shard"]), int(row["line"]))
        self.findings.note(self.names[row["file"]], int(row["row"]), f"{where}: {what}")

    def _check_skipped(self, recipe: Recipe) -> None:
        """skipped.jsonl, each row and the sums."""
        name, counts = kinds.SKIPPED_NAME, self.fields["counts"]
        shards = {row["name"]: index for index, row in enumerate(self.fields["inputs"])}
        for output in self.fields["outputs"]:
            if output["name"] == name:
                self.skipped, wrong = left_out.read_skipped(self.folder / name, shards, recipe)
                for number, what in wrong:
                    self.findings.note(name, number, f"{what}; expected a row as cook writes it")
                self.readable &= not wrong
                self.expect_equal(f"outputs: {name}: rows", output["rows"], len(self.skipped) + len(wrong))
        order = entry_keys(self.skipped)
        if (np.diff(order) < 0).any():
            self.findings.note(name, int(np.flatnonzero(np.diff(order) < 0)[0]) + 2, "expected the order of the shards")
        for key, there in records.skipped_counts(*records.count_skipped(self.skipped)).items():
            self.expect_equal(f"counts.{key}", counts[key], there)

    @property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """The number of each file's first row among those of all."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum([len(self.sizes[name]) for name in self.names])])

    def check_plan(self, recipe: Recipe) -> None:
        """Hold each split's sequences against the plan that the recipe makes of its examples.

        Where entries have several, a plan in a random order cannot be told from the output alone.
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
        """Note the first of a split's examples that the plan has elsewhere; whether there is none.

        `same`: which of them are those that the plan has in their places; `starts`: of its sequences.
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

    def run(self, tokenizer: str | None, pool: Executor) -> None:
        """All that can be asked of the folder alone, but for the plan."""
        self.check_files(pool)
        self.check_settings(tokenizer)
        self.check_rows(pool)
        if self.mixed:
            self.check_mix()
        elif self.recipe is not None and self.readable:
            self.check_totals(self.recipe)

    def compare_with_source(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:  # noqa: ARG002
        """Compare the result with its shards; findings go to the check. Not called where `why_not_comparable`."""
        raise AssertionError(f"nothing compares {self.kind.noun} with shards")

    def contents(self) -> dict[str, int]:
        """What there is, by nouns in the plural."""
        return {
            "sequences": sum(map(len, self.sizes.values())),
            "examples": len(self.examples),
            "tokens": sum(int(sizes.sum()) for sizes in self.sizes.values()),
        }

    def check_mix(self) -> None:
        """Hold the rows of a mix, each of a dataset, against the counts and the stream that its settings make."""
        fields = self.fields
        if not self.readable:
            return
        try:
            self._check_mix_rows(fields)
        except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, CookError) as exc:
            self.manifest_finding(f"its fields are not those that cook writes: {type(exc).__name__}: {exc}")

    def _check_mix_rows(self, fields: dict[str, Any]) -> None:
        names = [row["name"] for row in fields["sources"]]
        self.expect_equal("datasets", sorted(fields["datasets"]), sorted(names))
        sizes = np.concatenate([self.sizes[name] for name in self.names])
        row_of = self.first_rows
        rows = row_of[self.examples["file"]] + self.examples["row"]
        trained = np.bincount(rows, self.examples["trained"], len(sizes)).astype(np.int64)
        number = {name: index for index, name in enumerate(names)}
        of = np.array([number[name] for name in self.datasets])
        rows_of = fields["datasets"]
        held = [rows_of[name]["held"]["sequences"] for name in names]
        mix_settings = fields["mix"]
        weights = {
            name: weight for name, weight in mix_settings["weights"].items() if name in names
        }  # 0 is not among sources
        settings = mix_plan.check_settings(
            weights, mix_settings["sequences"], mix_settings["seed"], mix_settings["split"], None, names
        )
        factors = [settings.weights.get(name, Fraction(1)) for name in names]
        asked, given = mix_plan.allocate_sequences(held, factors, settings.sequences)
        total = Counter[str]()
        for index, name in enumerate(names):
            mine = of == index
            got = {
                "sequences": int(mine.sum()),
                "tokens": int(sizes[mine].sum()),
                "trained_tokens": int(trained[mine].sum()),
            }
            total.update(got)
            self.expect_equal(f"datasets.{name}.given", rows_of[name]["given"], got)
            self.expect_equal(f"datasets.{name}.given.sequences", rows_of[name]["given"]["sequences"], given[index])
            amounts = {
                key: round(float(asked[index] * amount / held[index]), 3)
                for key, amount in rows_of[name]["held"].items()
            }
            self.expect_equal(f"datasets.{name}.asked", rows_of[name]["asked"], amounts)
        self.expect_equal("counts", fields["counts"], dict(total))
        if len(of) == sum(given):
            stream = mix_plan.plan_stream(names, held, given, settings.seed)
            expected = np.searchsorted(np.cumsum(held), stream, side="right")
            for row in np.flatnonzero(expected != of)[:1].tolist():
                file = int(np.searchsorted(row_of, row, side="right")) - 1
                what = f"its dataset is {names[of[row]]}; expected {names[expected[row]]}, by settings and seed"
                self.findings.note(self.names[file], row - int(row_of[file]), what)


def entry_keys(table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """The shard and line of each row of a table, as one number."""
    places: npt.NDArray[np.int64] = table["shard"].astype(np.int64) << 32 | table["line"]
    return places


def file_damage(expected_file: tuple[Path, int, str]) -> str:
    """What is wrong with a file by its size and hash; empty where nothing is."""
    path, size, digest = expected_file
    try:
        there, its = path.stat().st_size, sha256_of(path)
    except FileNotFoundError:
        return "is missing"
    except (OSError, SourceError) as exc:
        return f"cannot be read: {exc}"
    if there != size:
        return f"has {there:,} bytes; expected {size:,}"
    return "" if its == digest else f"its sha256 is {its}; expected {digest}"


def _mask_rule(fields: dict[str, Any]) -> MaskRule:
    """Which tokens are trained in a dataset, of which a manifest has these fields."""
    rule: MaskRule = fields["mask_rule"]
    if rule not in get_args(MaskRule):
        raise ValueError(f"mask_rule is {rule!r}; expected one of {', '.join(get_args(MaskRule))}")
    return rule
