"""What is cooked, held against its manifest; and, with `deep`, against the shards that it was made of (`proving`).

    manifest   its syntax and sha256, the files it names and their sizes and hashes
    rows       columns, lengths, BOS, EOS and special ids, mask and labels of every row       (rows)
    sums       counts and figures, skipped.jsonl, and the plan that the recipe makes          (this module)
    shards     every pair of every entry once, contexts whole, texts as the recipe's          (proving)

A file whose hash is not the manifest's is not looked into: it is a finding by itself.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson

from cook import accounts, mixing
from cook.engines.bundled import find_preset
from cook.errors import CookError, OutputError, RecipeError, SourceError, TokenizerError
from cook.pack import plan
from cook.recipe import Recipe
from cook.rows import HELD, Finding, Findings, Held, Terms, check_file
from cook.sources import Shard, Source, open_source, sha256_of
from cook.spool import REASONS
from cook.store import card, manifest, parquet
from cook.store.publish import aside
from cook.tokenizer import Tokenizer, resolve

# A row of skipped.jsonl: index of the shard, line, pair (-1: the entry), index of the reason, pairs, tokens (0: none).
SKIP = np.dtype([("shard", "i4"), ("line", "i4"), ("pair", "i4"), ("reason", "i1"), ("pairs", "i4"), ("tokens", "i4")])
SKIP_KEYS = ("shard", "line", "pair", "reason", "pairs", "tokens")
ENTIRE = ("no_pairs", "bad_line", "repeat")  # reasons for leaving out whole entries alone
MAX_INT = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Checked:
    """A data set or a mix, checked."""

    name: str
    folder: Path
    compared: bool
    """Whether it was compared with its shards."""
    findings: list[Finding]
    found: int
    """How many findings there are; of each file the first 10,000 are in the list."""
    sequences: int
    examples: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Verified:
    """What a check of a path came to."""

    data_sets: list[Checked]

    @property
    def found(self) -> int:
        """How many findings there are; 0: all is right."""
        return sum(checked.found for checked in self.data_sets)


def verify(
    path: str | os.PathLike[str], *, deep: bool = False, source: str | None = None, tokenizer: str | None = None
) -> Verified:
    """Check a data set, a mix, or all that is cooked in a ROOT: all that `cook verify` does from a shell.

    With `deep` the shards of `source` are read, and every context, question and answer compared; it takes four bytes a
    token of room for temporary files. Raises CookError for what cannot be checked; what is wrong is a finding.
    """
    if deep != (source is not None):
        raise RecipeError("source: names the shards that deep compares with; give both, or neither")
    folders = cooked_folders(Path(path))
    done = [_verify(folder, source, tokenizer) for folder in folders]
    if not (Path(path) / manifest.NAME).exists():
        done += _root_card(Path(path))
    return Verified(done)


def cooked_folders(path: Path) -> list[Path]:
    """The folder of a data set or of a mix; or, of a ROOT, those in it. Raises OutputError where nothing is cooked."""
    if not path.exists() and aside(path.parent, path.name).exists():
        return [aside(path.parent, path.name)]  # a kill between two renames left the older result there
    if (path / manifest.NAME).exists():
        return [path]
    found = sorted((each.parent for each in path.glob(f"*/{manifest.NAME}")), key=lambda each: os.fsencode(each.name))
    if not found:
        raise OutputError(f"{path}: is not cooked: neither it nor a folder in it has a {manifest.NAME}")
    return found


def _root_card(root: Path) -> list[Checked]:
    """The card of a ROOT, if cook wrote it and it is not what cook would write now."""
    findings = Findings()
    try:
        there = (root / card.NAME).read_bytes()
    except OSError:
        return []
    if card.MARK.encode() not in there or there == card.card(card.cooked(root)).encode():
        return []
    findings.note(card.NAME, None, "is not the card of the data sets that are here; cook any of them to renew it")
    return [Checked(card.NAME, root, False, findings.kept, 1, 0, 0, 0)]


def _verify(folder: Path, source: str | None, tokenizer: str | None) -> Checked:
    check = Check(folder)
    try:
        check.fields = manifest.read(folder)
    except OutputError as exc:
        if _sealed(folder):
            raise
        check.findings.note(manifest.NAME, None, str(exc).removeprefix(f"{folder / manifest.NAME}: "))
        return check.done()
    mixed = "kind" in check.fields
    if mixed and source is not None:
        raise OutputError(f"{folder}: is a mix, which no shards belong to: check its data sets with --deep, it without")
    check.files()
    with tempfile.TemporaryDirectory(prefix="cook-verify-") as work:
        ids = Path(work) / "ids"
        with ids.open("wb") as spool:
            try:
                check.settings(tokenizer)
                check.rows(spool if source is not None else None)
            except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as exc:
                what = f"its fields are not those that cook writes: {type(exc).__name__}: {exc}"
                check.findings.note(manifest.NAME, None, what)
                return check.done()
        if mixed:
            check.mix()
            return check.done()
        if check.whole:
            check.sums()
        if source is not None:
            shards = _shards(check, source)
            if check.whole and check.recipe is not None:
                from cook.proving import prove

                prove(check, shards, _tokenizer(check, tokenizer), ids)
                check.compared = True
        elif check.whole and not len(check.findings):
            check.plan(None)
    return check.done()


def _sealed(folder: Path) -> bool:
    """Whether a manifest that is refused is whole all the same: of another version of cook, say."""
    try:
        found = orjson.loads((folder / manifest.NAME).read_bytes())
        return isinstance(found, dict) and found.pop("sha256", None) == manifest.digest(found)
    except (OSError, ValueError, TypeError):
        return False


class Check:
    """The check of one folder."""

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
        self.skipped = np.empty(0, SKIP)
        self.damaged: set[str] = set()
        self.compared = False

    def done(self) -> Checked:
        """What came of it."""
        name = self.fields.get("data_set", self.folder.name)
        tokens = sum(int(sizes.sum()) for sizes in self.sizes.values())
        sequences = sum(len(sizes) for sizes in self.sizes.values())
        return Checked(
            name, self.folder, self.compared, self.findings.kept, len(self.findings), sequences, len(self.examples),
            tokens,
        )  # fmt: skip

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
        for path in sorted(self.folder.iterdir()):
            if path.name not in named and (path.suffix == ".parquet" or path.name == accounts.SKIPPED_NAME):
                self.findings.note(path.name, None, "is here; expected only the files that the manifest names")
        by_split: dict[str, list[str]] = {}
        for output in outputs:
            if output["name"] != accounts.SKIPPED_NAME:
                by_split.setdefault(output.get("split"), []).append(output["name"])
        for split, names in by_split.items():
            if names != parquet.file_names(len(names), str(split)):
                expected = parquet.file_names(len(names), str(split))
                self.wrong(f"outputs: of split {split} are {', '.join(names[:3])}; expected {', '.join(expected[:3])}")
        if "kind" in self.fields:
            there = (self.folder / card.NAME).read_bytes() if (self.folder / card.NAME).exists() else None
            if there != card.mix_card(self.fields).encode():
                self.findings.note(card.NAME, None, "is not the card that cook wrote with this mix")

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
            self.same_tokenizer(resolve(dataclasses.replace(self.recipe, tokenizer=preset.name)))
        names = [row["name"] for row in self.fields["inputs"]]
        if len(set(names)) < len(names) or not names:
            self.wrong("inputs: expected each shard once")

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
        terms = Terms(
            len(specials), told["bos_id"], told["eos_id"], specials, longest, None if mixed else len(fields["inputs"])
        )
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
            made[split] = accounts.Made(lengths, sizes, int(of_split["output"].sum(dtype=np.int64)))
        return made

    def sums(self) -> None:
        """Counts and figures of the manifest, as far as its own files tell them; and skipped.jsonl."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        made = self.made()
        if not made or not len(self.examples):
            self.wrong("outputs: expected at least one sequence")
            self.whole = False
            return
        total = accounts.Made(
            np.concatenate([split.lengths for split in made.values()]),
            np.concatenate([split.tokens for split in made.values()]),
            sum(split.trained for split in made.values()),
        )
        for key, value in total.counts().items():
            self.equal(f"counts.{key}", counts[key], value)
        splits = {name: split.counts() for name, split in made.items()} if len(made) > 1 else None
        self.equal("counts.splits", counts.get("splits"), splits)
        longest = self.fields["recipe"]["max_length"]
        for key, value in accounts.shape(total, longest).items():
            self.equal(f"figures.{key}", figures.get(key), value)
        self._skipped()
        places = self.examples["shard"].astype(np.int64) << 32 | self.examples["line"]
        entries, times = np.unique(places, return_counts=True)
        whole = self.skipped[self.skipped["pair"] < 0]
        left = np.unique(whole["shard"].astype(np.int64) << 32 | whole["line"])
        self.equal("counts.entries", counts["entries"], len(entries) + len(left))
        both = np.intersect1d(entries, left)
        for place in both[:20].tolist():
            entry = self.place(place >> 32, place & MAX_INT)
            self.findings.note(accounts.SKIPPED_NAME, None, f"leaves out {entry}, which has examples")
        limit = self.fields["recipe"]["limit"]
        if limit and counts["entries"] > limit:
            self.wrong(f"counts.entries is {counts['entries']:,}; expected at most the recipe's limit, {limit:,}")
        if (times > 1).any() and self.fields["recipe"]["overlong"] not in ("split", "truncate"):
            at = int(np.flatnonzero(times[np.searchsorted(entries, places)] > 1)[1])
            self.at(at, "an example of its entry stands elsewhere already; expected each once")
        if not (counts["split"] or (self.skipped["reason"] == REASONS.index("overlong")).any()):
            self.equal("figures.longest_entry", figures["longest_entry"], int(total.lengths.max()))
        if counts["pairs"] < len(self.examples) + counts_of(counts["skipped_pairs"]):
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

    def _skipped(self) -> None:
        """skipped.jsonl, each row and the sums."""
        recipe, counts = self.fields["recipe"], self.fields["counts"]
        outputs = [row for row in self.fields["outputs"] if row["name"] == accounts.SKIPPED_NAME]
        shards = {row["name"]: index for index, row in enumerate(self.fields["inputs"])}
        rows: list[tuple[int, ...]] = []
        name = accounts.SKIPPED_NAME
        if outputs:
            with (self.folder / name).open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        rows.append(_skip_row(line, shards, recipe))
                    except (ValueError, KeyError, TypeError, AttributeError) as exc:
                        self.findings.note(name, number, f"{exc}; expected a row as cook writes it")
                        self.whole = False
            self.equal(f"outputs: {name}: rows", outputs[0]["rows"], len(rows))
        self.skipped = np.array(rows, SKIP)
        order = self.skipped["shard"].astype(np.int64) << 32 | self.skipped["line"]
        if (np.diff(order) < 0).any():
            self.findings.note(name, int(np.flatnonzero(np.diff(order) < 0)[0]) + 2, "expected the order of the shards")
        whole = self.skipped[self.skipped["pair"] < 0]
        for key, table, amounts in (
            ("skipped_entries", whole, np.ones(len(whole))),
            ("skipped_pairs", self.skipped, self.skipped["pairs"]),
        ):
            sums = np.bincount(table["reason"], amounts, minlength=len(REASONS)).astype(int)
            there = {reason: int(count) for reason, count in zip(REASONS, sums, strict=True) if count}
            self.equal(f"counts.{key}", counts[key], there)

    def plan(self, piece: npt.NDArray[np.integer] | None) -> None:
        """Hold each split's sequences against the plan that the recipe makes of its examples.

        `piece` is the number of each example among those of its entry. Where it is not known, and entries have several,
        a plan in a random order cannot be told from the output alone.
        """
        recipe = self.fields["recipe"]
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
                if same.any() and recipe["packing"] in ("best-fit", "best-fit-decreasing"):
                    continue
            lengths = (examples["input"].astype(np.int64) + examples["output"])[order]
            planned = plan(lengths, recipe["max_length"], recipe["packing"], recipe["seed"])
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
                self.at(int(chosen[at]), f"expected another example here by --packing {recipe['packing']} and the seed")

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


def counts_of(by_reason: dict[str, int]) -> int:
    """The sum over all reasons."""
    return sum(by_reason.values())


def _skip_row(line: bytes, shards: dict[str, int], recipe: dict[str, Any]) -> tuple[int, ...]:
    """A row of skipped.jsonl as SKIP has it. Raises ValueError, KeyError, TypeError for what is none."""
    row = orjson.loads(line)
    reason, pair, pairs, tokens = row["reason"], row["pair"], row["pairs"], row["tokens"]
    wrong = []
    if {*row} - {"problem"} != {*SKIP_KEYS} or ("problem" in row) > (reason == "bad_line"):
        wrong.append(f"its fields are {', '.join(row)}")
    if row["shard"] not in shards:
        wrong.append(f"its shard is {row['shard']!r}")
    numbers = (row["line"], -1 if pair is None else pair, pairs, tokens or 0)
    if not all(type(number) is int and number <= MAX_INT for number in numbers) or row["line"] < 1 or numbers[1] < -1:
        wrong.append(f"line, pair, pairs, tokens are {row['line']!r}, {pair!r}, {pairs!r}, {tokens!r}")
    blank = reason in ("blank_question", "blank_answer")
    if (pair is None and blank) or (pair is not None and reason in ENTIRE) or (pair is not None and pairs != 1):
        wrong.append(f"its pair is {pair!r} and its pairs {pairs!r} with reason {reason}")
    if reason == "repeat" and not recipe["dedup"]:
        wrong.append("it is left out as a repeat, without --dedup")
    if (reason == "overlong") != bool(tokens) or (tokens and tokens <= recipe["max_length"]):
        wrong.append(f"it has {tokens!r} tokens with reason {reason}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return (shards[row["shard"]], row["line"], numbers[1], REASONS.index(reason), pairs, numbers[3])


def _tokenizer(check: Check, name: str | None) -> Tokenizer:
    """The tokenizer that a data set was cooked with. Raises TokenizerError for another."""
    assert check.recipe is not None
    told = check.fields["tokenizer"]
    try:
        found = resolve(check.recipe)
    except TokenizerError as exc:
        hint = "" if name else f"\npass --tokenizer, the place of {told['name']}, which it was cooked with"
        raise TokenizerError(f"{exc}{hint}") from exc
    if found.fingerprint != told["fingerprint"]:
        raise TokenizerError(
            f"{name or told['name']}: is not the tokenizer that {check.folder} was cooked with: its fingerprint is "
            f"{found.fingerprint}, the manifest says {told['fingerprint']}; pass --tokenizer"
        )
    check.same_tokenizer(found)
    return found


def _shards(check: Check, source: str) -> list[Shard]:
    """The shards that a data set was cooked from, matched by names and sha256. Raises SourceError."""
    opened = _open(source, check.fields.get("source", {}))
    name = check.fields["data_set"]
    if name not in opened.names():
        raise SourceError(f"{source}: holds no data set {name}, which {check.folder} was cooked from")
    there = {shard.name: shard for shard in opened.shards(name)}
    shards = []
    for row in check.fields["inputs"]:
        shard = there.get(row["name"])
        if shard is None:
            raise SourceError(f"{source}: {name}: holds no shard {row['name']}, which {check.folder} was cooked from")
        digest = shard.sha256 or sha256_of(shard.path)
        if digest != row["sha256"]:
            raise SourceError(
                f"{shard.path}: is not the shard that {check.folder} was cooked from: its sha256 is {digest}, the "
                f"manifest says {row['sha256']}"
            )
        check.equal(f"inputs: {row['name']}: bytes", row["bytes"], shard.size)
        shards.append(shard)
    return shards


def _open(source: str, told: dict[str, Any]) -> Source:
    """The source; one on the Hub at the commit that the manifest names, unless it names one itself."""
    from cook.recipe import hub_address

    address = hub_address(source)
    commit = told.get("commit") if address and address[1] is None else None
    return open_source(source, follow_links=True, revision=commit)


def by_file(findings: list[Finding], most: int) -> Iterator[Finding]:
    """The first findings of each file."""
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.file] += 1
        if seen[finding.file] <= most:
            yield finding
