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
from cook.check.rows import HELD, Findings, Held, Terms
from cook.core import records
from cook.core.errors import CookError, RecipeError, SourceError, TokenizerError
from cook.core.files import sha256_of
from cook.core.recipe import Recipe
from cook.core.records import REASONS
from cook.encode import left_out
from cook.executors.local import results
from cook.pack import mix_plan, statistics
from cook.pack.planner import plan
from cook.pack.splits import named
from cook.pipeline.build import EncodingStrategy
from cook.pipeline.figures import shape
from cook.read.source import Shard
from cook.shapes.protocol import MaskRule
from cook.store import columns, dataset_card, kinds, manifest
from cook.tokenizer.loading import Tokenizer, resolve
from cook.tokenizer.presets import find_preset


class Check:
    """The check of one folder: of a dataset, or of a mix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fields: dict[str, Any] = {}
        self.findings = Findings()
        self.recipe: Recipe | None = None
        self.whole = True
        """Whether all files could be read and taken apart: what holds of sums is asked only then."""
        self.examples = np.empty(0, HELD)
        self.split_of: list[str] = []
        """The split of each file."""
        self.names: list[str] = []
        """The name of each file."""
        self.sizes: dict[str, npt.NDArray[np.int64]] = {}
        """Tokens of each row of a file."""
        self.datasets: list[str] = []
        self.skipped = np.empty(0, records.LEFT)
        self.damaged: set[str] = set()
        self.seed = int.from_bytes(os.urandom(8), "little")
        """Of the hashes of examples; see `hashing`."""

    @property
    def alone(self) -> str:
        """Why it cannot be compared with shards; empty where it can."""
        return self.kind.deep

    @property
    def kind(self) -> kinds.Kind:
        """The kind of its manifest; a dataset's where that could not be read."""
        return kinds.of(self.fields or {"kind": kinds.DATASET})

    @property
    def mixed(self) -> bool:
        """Whether it is a mix."""
        return self.kind.name == kinds.MIX

    def wrong(self, what: str) -> None:
        """Note something about the manifest."""
        self.findings.note(manifest.NAME, None, what)

    def equal(self, where: str, is_now: Any, expected: Any) -> None:
        """Note a field of the manifest that is not what was found."""
        if is_now != expected or type(is_now) is not type(expected):
            self.wrong(f"{where} is {is_now!r}; expected {expected!r}")

    def files(self, pool: Executor) -> None:
        """Sizes and hashes of the files that the manifest names, and that there are no others beside them."""
        outputs = self.fields["outputs"]
        named = {output["name"] for output in outputs}
        told = ((0, (self.folder / output["name"], output["bytes"], output["sha256"])) for output in outputs)
        for (_, (path, _, _)), what in results(pool, damage_of, told):
            if what:
                self._damage(path.name, what)
        ours = named | {manifest.NAME} | ({dataset_card.NAME} if self.mixed else set())
        for path in sorted(self.folder.iterdir()):
            if path.name not in ours and not path.name.startswith("."):
                self.findings.note(path.name, None, "is here; expected only the files that the manifest names")
        by_split: dict[str, list[str]] = {}
        for output in outputs:
            if output["name"] != kinds.SKIPPED_NAME:
                by_split.setdefault(output.get("split"), []).append(output["name"])
        for split, names in by_split.items():
            expected = self.file_names(len(names), str(split))
            if names != expected:
                self.wrong(f"outputs: of split {split} are {', '.join(names[:3])}; expected {', '.join(expected[:3])}")
        if self.mixed:
            there = (
                (self.folder / dataset_card.NAME).read_bytes() if (self.folder / dataset_card.NAME).exists() else None
            )
            if there != dataset_card.mix_card(self.fields).encode():
                self.findings.note(dataset_card.NAME, None, "is not the card that cook wrote with this mix")

    def file_names(self, count: int, split: str) -> list[str]:
        """What so many files of a split are called."""
        return columns.file_names(count, split)

    def _damage(self, name: str, what: str) -> None:
        self.findings.note(name, None, what)
        self.damaged.add(name)
        self.whole = False

    def settings(self, tokenizer: str | None) -> None:
        """What the manifest says of recipe and tokenizer, held against each other."""
        told = self.fields["tokenizer"]
        bos, eos, specials = told["bos_id"], told["eos_id"], told["special_ids"]
        if specials != sorted({*specials, eos, *([] if bos is None else [bos])}):
            self.wrong("tokenizer.special_ids: expected ascending ids, with those of BOS and EOS among them")
        if (told["bos"] is None) != (bos is None):
            self.wrong(f"tokenizer.bos_id is {bos!r}, and tokenizer.bos {told['bos']!r}; expected both or neither")
        if not 0 <= told["pad_id"] < told["vocab_size"]:
            self.wrong(f"tokenizer.pad_id is {told['pad_id']}; expected an id below {told['vocab_size']:,}")
        if self.mixed:
            return
        self.recipe = self._recipe(tokenizer or told["name"])
        preset = find_preset(told["name"])
        if preset and preset.fingerprint == told["fingerprint"] and self.recipe is not None:
            try:
                self.same_tokenizer(resolve(dataclasses.replace(self.recipe, tokenizer=preset.name)))
            except TokenizerError as exc:
                self.wrong(f"tokenizer: {exc}")
        names = [row["name"] for row in self.fields["inputs"]]
        if len(set(names)) < len(names) or not names:
            self.wrong("inputs: expected each shard once")
        if not isinstance(self.fields.get("source"), dict):
            self.wrong(f"source is {self.fields.get('source')!r}; expected the kind of source")
            self.recipe = None

    def same_tokenizer(self, found: Tokenizer) -> None:
        """Hold what the manifest says of the tokenizer against the tokenizer."""
        told = self.fields["tokenizer"]
        for field in ("vocab_size", "bos", "bos_id", "eos", "eos_id", "pad_id", "unk_id"):
            self.equal(f"tokenizer.{field}", told.get(field), getattr(found, field))
        self.equal("tokenizer.special_ids", told["special_ids"], [i for _, i in found.specials])

    def _recipe(self, tokenizer: str) -> Recipe | None:
        told = self.fields["tokenizer"]
        settings = dict(self.fields["recipe"])
        of_names = settings.pop("splits", "all-train")
        others = {*named(self.fields["dataset"], [row["name"] for row in self.fields["inputs"]])} != {"train"}
        self.equal("recipe has splits", "splits" in self.fields["recipe"], others)
        try:
            recipe = Recipe(
                **settings,
                splits=of_names,
                datasets=self.fields["dataset"],
                tokenizer=tokenizer,
                bos="none" if told["bos"] is None else told["bos"],
                eos=told["eos"],
            )
        except (TypeError, RecipeError) as exc:
            self.wrong(f"recipe: {exc}")
            return None
        if orjson.dumps(recipe.determining(), option=orjson.OPT_SORT_KEYS) != orjson.dumps(
            settings, option=orjson.OPT_SORT_KEYS
        ):
            self.wrong("recipe: expected every setting that determines bytes, in the form that cook writes it")
        return recipe

    @property
    def strategy(self) -> EncodingStrategy:
        """How its entries became examples, for `prove`."""
        return EncodingStrategy(shape=self.fields["shape"])

    def _terms(self) -> Terms:
        fields = self.fields
        told = fields["tokenizer"]
        specials = np.zeros(min(max(told["vocab_size"], 1), 1 << 24), bool)
        specials[[i for i in told["special_ids"] if 0 <= i < len(specials) and i != told.get("unk_id")]] = True
        mixed = self.mixed
        longest = (
            {row["name"]: row["max_length"] for row in fields["sources"]}
            if mixed
            else {None: fields["recipe"]["max_length"]}
        )
        rules: dict[str | None, MaskRule] = {} if mixed else {None: _mask_rule(fields)}
        rules |= {row["name"]: _mask_rule(row) for row in fields["sources"]} if mixed else {}
        inputs = None if mixed else len(fields["inputs"])
        return Terms(len(specials), told["bos_id"], told["eos_id"], specials, longest, inputs, rules, self.seed)

    def rows(self, pool: Executor) -> None:
        """Every row of every file, and each file's own sums."""
        terms, tables = self._terms(), [self.examples]
        outputs = [output for output in self.fields["outputs"] if output["name"] != kinds.SKIPPED_NAME]
        jobs = [
            rows.jobs(self.folder / output["name"], output["bytes"], terms)
            if output["name"] not in self.damaged
            else []
            for output in outputs
        ]
        done = (share for _, share in results(pool, rows.check_rows, ((0, job) for of_file in jobs for job in of_file)))
        for output, of_file in zip(outputs, jobs, strict=True):
            name = output["name"]
            self.names.append(name)
            self.split_of.append(output["split"])
            self.sizes[name] = np.empty(0, np.int64)
            if not of_file:
                continue
            held = Held.joined(list(islice(done, len(of_file))))
            self.findings.add(held.findings)
            held.examples["file"] = len(self.names) - 1
            tables.append(held.examples)
            self.sizes[name] = held.sizes
            self.datasets += held.datasets
            self.whole &= held.sound
            if held.sound:
                self._of_file(output, held)
        self.examples = np.concatenate(tables)

    def _of_file(self, output: dict[str, Any], held: Held) -> None:
        where = f"outputs: {output['name']}: "
        self.equal(where + "rows", output["rows"], len(held.sizes))
        self.equal(where + "tokens", output["tokens"], int(held.sizes.sum()))
        self.equal(
            where + "trained_tokens", output["trained_tokens"], int(held.examples["trained"].sum(dtype=np.int64))
        )

    def made(self) -> dict[str, statistics.Made]:
        """What became of each split."""
        made = {}
        for split in dict.fromkeys(self.split_of):
            files = [index for index, name in enumerate(self.split_of) if name == split]
            of_split = self.examples[np.isin(self.examples["file"], files)]
            sizes = np.concatenate([self.sizes[self.names[index]] for index in files])
            trained = int(of_split["trained"].sum(dtype=np.int64))
            made[split] = statistics.Made(trained, statistics.Tally.of(of_split["tokens"]), statistics.Tally.of(sizes))
        return made

    def sums(self, recipe: Recipe) -> None:
        """Counts and figures of the manifest, as far as its own files tell them; and skipped.jsonl."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        made = self.made()
        if not made or not len(self.examples):
            self.wrong("outputs: expected at least one sequence")
            self.whole = False
            return
        total = statistics.Made.joined(list(made.values()))
        for key, value in total.counts().items():
            self.equal(f"counts.{key}", counts[key], value)
        splits = {name: split.counts() for name, split in made.items()} if len(made) > 1 else None
        self.equal("counts.splits", counts.get("splits"), splits)
        for key, value in shape(total, recipe.max_length).items():
            self.equal(f"figures.{key}", figures.get(key), value)
        self._skipped(recipe)
        self._entries(recipe, total)

    def _entries(self, recipe: Recipe, total: statistics.Made) -> None:
        """What the examples and skipped.jsonl together say of entries and pairs."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        places = places_of(self.examples)
        entries, first = np.unique(places, return_index=True)
        whole = self.skipped[self.skipped["unit"] < 0]
        left = np.unique(places_of(whole))
        self.equal("counts.entries", counts["entries"], len(entries) + len(left))
        both = np.intersect1d(entries, left)
        for place in both[:20].tolist():
            entry = self.place(place >> 32, place & left_out.MAX_INT)
            self.findings.note(kinds.SKIPPED_NAME, None, f"leaves out {entry}, which has examples")
        if recipe.limit and counts["entries"] > recipe.limit:
            self.wrong(
                f"counts.entries is {counts['entries']:,}; expected at most the recipe's limit, {recipe.limit:,}"
            )
        if recipe.overlong not in ("split", "truncate"):
            for example in np.setdiff1d(np.arange(len(places)), first).tolist():
                self.at(example, "stands elsewhere already; expected once")
        if not (counts["split"] or (self.skipped["reason"] == REASONS.index("overlong")).any()):
            self.equal("figures.longest_entry", figures["longest_entry"], int(total.lengths.values[-1]))
        if counts["pairs"] < len(self.examples) + sum(counts["skipped_pairs"].values()):
            self.wrong(f"counts.pairs is {counts['pairs']:,}; expected at least one an example, and those left out")

    def place(self, shard: int, line: int) -> str:
        """An entry's shard and line, in words."""
        inputs = self.fields["inputs"]
        return f"{inputs[shard]['name'] if 0 <= shard < len(inputs) else shard}:{line}"

    def at(self, example: int, what: str) -> None:
        """Note something about an example."""
        row = self.examples[example]
        where = self.place(int(row["shard"]), int(row["line"]))
        self.findings.note(self.names[row["file"]], int(row["row"]), f"{where}: {what}")

    def _skipped(self, recipe: Recipe) -> None:
        """skipped.jsonl, each row and the sums."""
        name, counts = kinds.SKIPPED_NAME, self.fields["counts"]
        shards = {row["name"]: index for index, row in enumerate(self.fields["inputs"])}
        for output in self.fields["outputs"]:
            if output["name"] == name:
                self.skipped, wrong = left_out.read_skipped(self.folder / name, shards, recipe)
                for number, what in wrong:
                    self.findings.note(name, number, f"{what}; expected a row as cook writes it")
                self.whole &= not wrong
                self.equal(f"outputs: {name}: rows", output["rows"], len(self.skipped) + len(wrong))
        order = places_of(self.skipped)
        if (np.diff(order) < 0).any():
            self.findings.note(name, int(np.flatnonzero(np.diff(order) < 0)[0]) + 2, "expected the order of the shards")
        for key, there in records.left_out(*records.counted(self.skipped)).items():
            self.equal(f"counts.{key}", counts[key], there)

    @property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """The number of each file's first row among those of all."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum([len(self.sizes[name]) for name in self.names])])

    def plan(self, recipe: Recipe) -> None:
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
            self.planned(recipe, chosen, order[planned.order] == np.arange(len(order)), planned.starts)

    def planned(
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
        self.at(int(examples[at]), f"expected another example here by --packing {recipe.packing} and the seed")
        return False

    def look(self, tokenizer: str | None, pool: Executor) -> None:
        """All that can be asked of the folder alone, but for the plan."""
        self.files(pool)
        self.settings(tokenizer)
        self.rows(pool)
        if self.mixed:
            self.mix()
        elif self.recipe is not None and self.whole:
            self.sums(self.recipe)

    def prove(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:  # noqa: ARG002
        """Compare it with its shards; findings go to the check. Not asked for where it is `alone`."""
        raise AssertionError(f"nothing compares {self.kind.noun} with shards")

    def holds(self) -> dict[str, int]:
        """What there is, by nouns in the plural."""
        return {
            "sequences": sum(map(len, self.sizes.values())),
            "examples": len(self.examples),
            "tokens": sum(int(sizes.sum()) for sizes in self.sizes.values()),
        }

    def mix(self) -> None:
        """Hold the rows of a mix, each of a dataset, against the counts and the stream that its settings make."""
        fields = self.fields
        if not self.whole:
            return
        try:
            self._mix(fields)
        except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, CookError) as exc:
            self.wrong(f"its fields are not those that cook writes: {type(exc).__name__}: {exc}")

    def _mix(self, fields: dict[str, Any]) -> None:
        names = [row["name"] for row in fields["sources"]]
        self.equal("datasets", sorted(fields["datasets"]), sorted(names))
        sizes = np.concatenate([self.sizes[name] for name in self.names])
        row_of = self.first_rows
        rows = row_of[self.examples["file"]] + self.examples["row"]
        trained = np.bincount(rows, self.examples["trained"], len(sizes)).astype(np.int64)
        number = {name: index for index, name in enumerate(names)}
        of = np.array([number[name] for name in self.datasets])
        rows_of = fields["datasets"]
        held = [rows_of[name]["held"]["sequences"] for name in names]
        told = fields["mix"]
        weights = {name: weight for name, weight in told["weights"].items() if name in names}  # 0 is not among sources
        settings = mix_plan.checked_settings(weights, told["sequences"], told["seed"], told["split"], None, names)
        factors = [settings.weights.get(name, Fraction(1)) for name in names]
        asked, given = mix_plan.shares(held, factors, settings.sequences)
        total = Counter[str]()
        for index, name in enumerate(names):
            mine = of == index
            got = {
                "sequences": int(mine.sum()),
                "tokens": int(sizes[mine].sum()),
                "trained_tokens": int(trained[mine].sum()),
            }
            total.update(got)
            self.equal(f"datasets.{name}.given", rows_of[name]["given"], got)
            self.equal(f"datasets.{name}.given.sequences", rows_of[name]["given"]["sequences"], given[index])
            amounts = {
                key: round(float(asked[index] * amount / held[index]), 3)
                for key, amount in rows_of[name]["held"].items()
            }
            self.equal(f"datasets.{name}.asked", rows_of[name]["asked"], amounts)
        self.equal("counts", fields["counts"], dict(total))
        if len(of) == sum(given):
            stream = mix_plan.stream(names, held, given, settings.seed)
            expected = np.searchsorted(np.cumsum(held), stream, side="right")
            for row in np.flatnonzero(expected != of)[:1].tolist():
                file = int(np.searchsorted(row_of, row, side="right")) - 1
                what = f"its dataset is {names[of[row]]}; expected {names[expected[row]]}, by settings and seed"
                self.findings.note(self.names[file], row - int(row_of[file]), what)


def places_of(table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """The shard and line of each row of a table, as one number."""
    places: npt.NDArray[np.int64] = table["shard"].astype(np.int64) << 32 | table["line"]
    return places


def damage_of(told: tuple[Path, int, str]) -> str:
    """What is wrong with a file by its size and hash; empty where nothing is."""
    path, size, digest = told
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
