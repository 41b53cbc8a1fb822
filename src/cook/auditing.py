"""What is cooked against its own manifest: files, settings, rows, sums, and the plan that the recipe makes.

A file whose hash is not the manifest's is not looked into: it is a finding by itself.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson

from cook import accounts, mixing
from cook.errors import CookError, RecipeError, SourceError, TokenizerError
from cook.pack import plan
from cook.presets import find_preset
from cook.recipe import Recipe
from cook.rows import HELD, Findings, Held, Terms, check_file
from cook.sources import sha256_of
from cook.spool import REASONS
from cook.store import card, manifest, parquet
from cook.tokenizer import Tokenizer, resolve


class Check:
    """The check of one folder: of a data set, or of a mix."""

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
        self.data_sets: list[str] = []
        self.skipped = np.empty(0, accounts.LEFT)
        self.damaged: set[str] = set()

    @property
    def alone(self) -> str:
        """Why it cannot be compared with shards; empty where it can."""
        return "is a mix, whose data sets belong to shards" if self.fields.get("kind") == manifest.MIX else ""

    def wrong(self, what: str) -> None:
        """Note something about the manifest."""
        self.findings.note(manifest.NAME, None, what)

    def equal(self, where: str, is_now: Any, expected: Any) -> None:
        """Note a field of the manifest that is not what was found."""
        if is_now != expected or type(is_now) is not type(expected):
            self.wrong(f"{where} is {is_now!r}; expected {expected!r}")

    def files(self) -> None:
        """Sizes and hashes of the files that the manifest names, and that there are no others beside them."""
        outputs = self.fields["outputs"]
        named = {output["name"] for output in outputs}
        for output in outputs:
            name, path = output["name"], self.folder / output["name"]
            try:
                size, digest = path.stat().st_size, sha256_of(path)
            except FileNotFoundError:
                self._damage(name, "is missing")
                continue
            except (OSError, SourceError) as exc:
                self._damage(name, f"cannot be read: {exc}")
                continue
            if size != output["bytes"]:
                self._damage(name, f"has {size:,} bytes; expected {output['bytes']:,}")
            elif digest != output["sha256"]:
                self._damage(name, f"its sha256 is {digest}; expected {output['sha256']}")
        ours = named | {manifest.NAME} | ({card.NAME} if self.fields.get("kind") == manifest.MIX else set())
        for path in sorted(self.folder.iterdir()):
            if path.name not in ours and not path.name.startswith("."):
                self.findings.note(path.name, None, "is here; expected only the files that the manifest names")
        by_split: dict[str, list[str]] = {}
        for output in outputs:
            if output["name"] != accounts.SKIPPED_NAME:
                by_split.setdefault(output.get("split"), []).append(output["name"])
        for split, names in by_split.items():
            expected = self.file_names(len(names), str(split))
            if names != expected:
                self.wrong(f"outputs: of split {split} are {', '.join(names[:3])}; expected {', '.join(expected[:3])}")
        if self.fields.get("kind") == manifest.MIX:
            there = (self.folder / card.NAME).read_bytes() if (self.folder / card.NAME).exists() else None
            if there != card.mix_card(self.fields).encode():
                self.findings.note(card.NAME, None, "is not the card that cook wrote with this mix")

    def file_names(self, count: int, split: str) -> list[str]:
        """What so many files of a split are called."""
        return parquet.file_names(count, split)

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
        if "kind" in self.fields:
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
        for field in ("vocab_size", "bos", "bos_id", "eos", "eos_id", "pad_id"):
            self.equal(f"tokenizer.{field}", told[field], getattr(found, field))
        self.equal("tokenizer.special_ids", told["special_ids"], [i for _, i in found.specials])

    def _recipe(self, tokenizer: str) -> Recipe | None:
        told = self.fields["tokenizer"]
        settings = self.fields["recipe"]
        try:
            recipe = Recipe(
                **settings,
                datasets=self.fields["data_set"],
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

    def rows(self, spool: IO[bytes] | None) -> None:
        """Every row of every file, and each file's own sums."""
        fields = self.fields
        told = fields["tokenizer"]
        specials = np.zeros(min(max(told["vocab_size"], 1), 1 << 24), bool)
        specials[[i for i in told["special_ids"] if 0 <= i < len(specials)]] = True
        mixed = "kind" in fields
        longest = (
            {row["name"]: row["max_length"] for row in fields["sources"]}
            if mixed
            else {None: fields["recipe"]["max_length"]}
        )
        corpora: set[str | None] = {row["name"] for row in fields["sources"] if row.get("corpus")} if mixed else set()
        if "styles" in fields:
            corpora.add(None)
        inputs = None if mixed else len(fields["inputs"])
        terms = Terms(len(specials), told["bos_id"], told["eos_id"], specials, longest, inputs, frozenset(corpora))
        tables, at = [self.examples], 0
        for output in fields["outputs"]:
            name = output["name"]
            if name == accounts.SKIPPED_NAME:
                continue
            self.names.append(name)
            self.split_of.append(output["split"])
            if name in self.damaged:
                self.sizes[name] = np.empty(0, np.int64)
                continue
            held = check_file(self.folder / name, terms, self.findings, spool)
            held.examples["file"] = len(self.names) - 1
            held.examples["at"] += at
            at += int(held.sizes.sum())
            tables.append(held.examples)
            self.sizes[name] = held.sizes
            self.data_sets += held.data_sets
            self.whole &= held.sound
            if held.sound:
                self._of_file(output, held)
        self.examples = np.concatenate(tables)

    def _of_file(self, output: dict[str, Any], held: Held) -> None:
        where = f"outputs: {output['name']}: "
        self.equal(where + "rows", output["rows"], len(held.sizes))
        self.equal(where + "tokens", output["tokens"], int(held.sizes.sum()))
        self.equal(where + "trained_tokens", output["trained_tokens"], int(held.examples["output"].sum(dtype=np.int64)))

    def made(self) -> dict[str, accounts.Made]:
        """What became of each split."""
        made = {}
        for split in dict.fromkeys(self.split_of):
            files = [index for index, name in enumerate(self.split_of) if name == split]
            of_split = self.examples[np.isin(self.examples["file"], files)]
            sizes = np.concatenate([self.sizes[self.names[index]] for index in files])
            lengths = of_split["input"].astype(np.int64) + of_split["output"]
            trained = int(of_split["output"].sum(dtype=np.int64))
            made[split] = accounts.Made(trained, accounts.Tally.of(lengths), accounts.Tally.of(sizes))
        return made

    def sums(self, recipe: Recipe) -> None:
        """Counts and figures of the manifest, as far as its own files tell them; and skipped.jsonl."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        made = self.made()
        if not made or not len(self.examples):
            self.wrong("outputs: expected at least one sequence")
            self.whole = False
            return
        total = accounts.Made.joined(list(made.values()))
        for key, value in total.counts().items():
            self.equal(f"counts.{key}", counts[key], value)
        splits = {name: split.counts() for name, split in made.items()} if len(made) > 1 else None
        self.equal("counts.splits", counts.get("splits"), splits)
        for key, value in accounts.shape(total, recipe.max_length).items():
            self.equal(f"figures.{key}", figures.get(key), value)
        self._skipped(recipe)
        self._entries(recipe, total)

    def _entries(self, recipe: Recipe, total: accounts.Made) -> None:
        """What the examples and skipped.jsonl together say of entries and pairs."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        places = self.examples["shard"].astype(np.int64) << 32 | self.examples["line"]
        entries, first = np.unique(places, return_index=True)
        whole = self.skipped[self.skipped["unit"] < 0]
        left = np.unique(whole["shard"].astype(np.int64) << 32 | whole["line"])
        self.equal("counts.entries", counts["entries"], len(entries) + len(left))
        both = np.intersect1d(entries, left)
        for place in both[:20].tolist():
            entry = self.place(place >> 32, place & accounts.MAX_INT)
            self.findings.note(accounts.SKIPPED_NAME, None, f"leaves out {entry}, which has examples")
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
        name, counts = accounts.SKIPPED_NAME, self.fields["counts"]
        shards = {row["name"]: index for index, row in enumerate(self.fields["inputs"])}
        for output in self.fields["outputs"]:
            if output["name"] == name:
                self.skipped, wrong = accounts.read_skipped(self.folder / name, shards, recipe)
                for number, what in wrong:
                    self.findings.note(name, number, f"{what}; expected a row as cook writes it")
                self.whole &= not wrong
                self.equal(f"outputs: {name}: rows", output["rows"], len(self.skipped) + len(wrong))
        order = self.skipped["shard"].astype(np.int64) << 32 | self.skipped["line"]
        if (np.diff(order) < 0).any():
            self.findings.note(name, int(np.flatnonzero(np.diff(order) < 0)[0]) + 2, "expected the order of the shards")
        for key, there in accounts.left_out(*accounts.counted(self.skipped)).items():
            self.equal(f"counts.{key}", counts[key], there)

    def plan(self, recipe: Recipe, piece: npt.NDArray[np.integer] | None = None) -> None:
        """Hold each split's sequences against the plan that the recipe makes of its examples.

        `piece` is the number of each example among those of its entry. Where it is not known, and entries have several,
        a plan in a random order cannot be told from the output alone.
        """
        row_of = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(self.sizes[name]) for name in self.names])])
        for split in dict.fromkeys(self.split_of):
            files = [index for index, name in enumerate(self.split_of) if name == split]
            chosen = np.flatnonzero(np.isin(self.examples["file"], files))
            examples = self.examples[chosen]
            if piece is not None:
                order = np.lexsort((piece[chosen], examples["line"], examples["shard"]))
            else:
                order = np.lexsort((examples["line"], examples["shard"]))
                same = (np.diff(examples["line"][order]) == 0) & (np.diff(examples["shard"][order]) == 0)
                if same.any() and recipe.packing in ("best-fit", "best-fit-decreasing"):
                    continue
            lengths = (examples["input"].astype(np.int64) + examples["output"])[order]
            planned = plan(lengths, recipe.max_length, recipe.packing, recipe.seed)
            rows = row_of[examples["file"]] + examples["row"]
            counts = np.unique(rows, return_counts=True)[1]
            differ = np.flatnonzero(order[planned.order] != np.arange(len(order)))
            ends = np.cumsum(counts)
            shared = min(len(ends), len(planned))
            broken = np.flatnonzero(ends[:shared] != planned.starts[1 : shared + 1])
            first = [int(differ[0])] if len(differ) else []
            first += [int(ends[broken[0]]) - 1] if len(broken) else []
            if first or len(ends) != len(planned):
                at = min(first) if first else len(order) - 1
                self.at(int(chosen[at]), f"expected another example here by --packing {recipe.packing} and the seed")

    def look(self, tokenizer: str | None, spool: IO[bytes] | None) -> None:
        """All that can be asked of the folder alone, but for the plan; the spool gets the ids."""
        self.files()
        self.settings(tokenizer)
        self.rows(spool)
        if "kind" in self.fields:
            self.mix()
        elif self.recipe is not None and self.whole:
            self.sums(self.recipe)

    def holds(self) -> dict[str, int]:
        """What there is, by nouns in the plural."""
        return {
            "sequences": sum(map(len, self.sizes.values())),
            "examples": len(self.examples),
            "tokens": sum(int(sizes.sum()) for sizes in self.sizes.values()),
        }

    def mix(self) -> None:
        """Hold the rows of a mix, each of a data set, against the counts and the stream that its settings make."""
        fields = self.fields
        if not self.whole:
            return
        try:
            self._mix(fields)
        except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, CookError) as exc:
            self.wrong(f"its fields are not those that cook writes: {type(exc).__name__}: {exc}")

    def _mix(self, fields: dict[str, Any]) -> None:
        names = [row["name"] for row in fields["sources"]]
        self.equal("data_sets", sorted(fields["data_sets"]), sorted(names))
        sizes = np.concatenate([self.sizes[name] for name in self.names])
        row_of = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(self.sizes[name]) for name in self.names])])
        rows = row_of[self.examples["file"]] + self.examples["row"]
        trained = np.bincount(rows, self.examples["output"], len(sizes)).astype(np.int64)
        number = {name: index for index, name in enumerate(names)}
        of = np.array([number[name] for name in self.data_sets])
        rows_of = fields["data_sets"]
        held = [rows_of[name]["held"]["sequences"] for name in names]
        told = fields["mix"]
        weights = {name: weight for name, weight in told["weights"].items() if name in names}  # 0 is not among sources
        settings = mixing.checked_settings(weights, told["sequences"], told["seed"], told["split"], None, names)
        factors = [settings.weights.get(name, Fraction(1)) for name in names]
        asked, given = mixing.shares(held, factors, settings.sequences)
        total = Counter[str]()
        for index, name in enumerate(names):
            mine = of == index
            got = {
                "sequences": int(mine.sum()),
                "tokens": int(sizes[mine].sum()),
                "trained_tokens": int(trained[mine].sum()),
            }
            total.update(got)
            self.equal(f"data_sets.{name}.given", rows_of[name]["given"], got)
            self.equal(f"data_sets.{name}.given.sequences", rows_of[name]["given"]["sequences"], given[index])
            amounts = {
                key: round(float(asked[index] * amount / held[index]), 3)
                for key, amount in rows_of[name]["held"].items()
            }
            self.equal(f"data_sets.{name}.asked", rows_of[name]["asked"], amounts)
        self.equal("counts", fields["counts"], dict(total))
        if len(of) == sum(given):
            stream = mixing.stream(names, held, given, settings.seed)
            expected = np.searchsorted(np.cumsum(held), stream, side="right")
            for row in np.flatnonzero(expected != of)[:1].tolist():
                file = int(np.searchsorted(row_of, row, side="right")) - 1
                what = f"its data set is {names[of[row]]}; expected {names[expected[row]]}, by settings and seed"
                self.findings.note(self.names[file], row - int(row_of[file]), what)
