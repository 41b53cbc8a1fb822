"""Raw texts, and the rounds before -> prompts that fit, and the entries that wait for their pairs.

    prompt = history + BOS + context block + delimiter          history: for each earlier entry of its chain
                                                                BOS + context block + delimiter + pairs + EOS

`FILE` holds the prompts; `FILE.cook/` beside it what `cook parse` needs: `entries.jsonl`, all chains so far with this
round's entries still waiting, `skipped.jsonl`, and the manifest. FILE comes last: if it is there, all is.

The tokens counted are the tokens sent (see `prompt_tokens`). Memory holds a batch of texts with their chains.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cook._version import __version__
from cook.core import catalog
from cook.core.errors import InputError, OutputExists, RecipeError, SourceError, refuse_empty
from cook.core.files import line, output, sha256_of, sync_folder, write_bytes, written
from cook.core.progress import Progress, silent
from cook.core.recipe import Recipe
from cook.core.results import Outcome
from cook.executors import process
from cook.read.source import Shard, shard_at
from cook.store import kinds, manifest, staging
from cook.store.kinds import SIDE
from cook.store.replace import is_file, older
from cook.synthesis import raw_texts as reading
from cook.synthesis.prompt_tokens import OVERLONG, Builder, Built, Waiting
from cook.synthesis.requests import BATCH, CHAT, ENDPOINTS, FORMATS, Writer
from cook.synthesis.rounds import Previous, Row, history, span
from cook.tokenizer.loading import Tokenizer, resolve

Format = Literal["jsonl", "openai-batch"]
Endpoint = Literal["chat", "completions"]
Overlong = Literal["drop", "truncate", "error"]
ENTRIES, SKIPPED = "entries.jsonl", "skipped.jsonl"
BATCH_LETTERS = 2 << 20  # of text encoded in one call
MOST_ROUNDS = 1 << 20

# Why a text gets no prompt, and why a prompt has no history though there is one.
TOO_LONG, SPECIAL_STRING = "overlong", "special_string"
NO_PAIRS, NO_ROOM = "no_pairs", "did_not_fit"


class Prompted(Outcome):
    """A file of prompts that is written; its manifest is in the folder beside it."""

    @property
    def file(self) -> Path:
        """The prompts."""
        return self.folder.with_name(self.folder.name.removesuffix(SIDE))


def prompts(
    raw: str | Path | Sequence[str | Path],
    to: str | Path,
    *,
    tokenizer: str,
    previous: str | Path | None = None,
    rounds: int = 1,
    max_length: int = 4096,
    max_new_tokens: int = 400,
    overlong: Overlong = "drop",
    field: str = "text",
    format: Format = "jsonl",  # noqa: A002 - as the flag is called
    endpoint: Endpoint | None = None,
    model: str | None = None,
    temperature: float = 0.0,
    overwrite: bool = False,
    progress: Progress | None = None,
    **text: Any,
) -> Prompted:
    """Write a round's prompts for raw texts into the file `to`: all that `cook prompts` does from a shell.

    `raw` names files and folders of JSONL, Parquet and text. With `rounds` M each text is given up to M - 1 worked
    examples; the first round takes the first part of the texts, and each later one the next part and, as `previous`,
    what `cook.parse` made of the answers before. `text` are bos, eos, context_template, pair_template, delimiter,
    engine and cache, as in a Recipe.

    Raises RecipeError for settings, SourceError, TokenizerError, InputError for what is no text, TooLong, OutputError
    and OutputExists.
    """
    refuse_empty(raw=raw, to=to, previous=previous, tokenizer=tokenizer)
    begun = time.perf_counter()
    recipe = Recipe(datasets=("prompts",), tokenizer=tokenizer, max_length=max_length, **text)
    to = Path(to)
    settings = {
        "format": format,
        "endpoint": (endpoint or CHAT) if format == BATCH else endpoint,
        "model": model,
        "temperature": temperature,
        "rounds": rounds,
        "max_length": max_length,
        "max_new_tokens": max_new_tokens,
        "overlong": overlong,
        "field": field,
        "context_template": recipe.context_template,
        "pair_template": recipe.pair_template,
        "delimiter": recipe.delimiter,
    }
    _refuse(settings, to)
    given = [raw] if isinstance(raw, (str, Path)) else raw
    is_file(to, "the prompts", map(Path, given))
    files = reading.find(given)
    before = Previous(previous) if previous is not None else None
    settings["round"] = before.round + 1 if before else 1
    made, up_to_date = _Round(recipe, resolve(recipe), files, before, settings).write(to, overwrite, progress or silent)
    return Prompted(Path(f"{to}{SIDE}"), made, up_to_date, time.perf_counter() - begun)


def _refuse(settings: dict[str, Any], to: Path) -> None:
    """Raise RecipeError, listing every setting that is wrong."""
    problems = []

    def whole(name: str, low: int, high: int) -> None:
        if not (type(settings[name]) is int and low <= settings[name] <= high):
            problems.append(f"{name}: must be a whole number from {low:,} to {high:,} (it is {settings[name]!r})")

    def one_of(name: str, choices: Iterable[str]) -> None:
        if settings[name] not in choices:
            problems.append(f"{name}: must be one of {', '.join(choices)} (it is {settings[name]!r})")

    whole("rounds", 1, MOST_ROUNDS)
    whole("max_new_tokens", 1, max(1, settings["max_length"] - 2))
    one_of("overlong", OVERLONG)
    one_of("format", FORMATS)
    if settings["endpoint"] is not None:
        one_of("endpoint", ENDPOINTS)
    batch = settings["format"] == BATCH
    if batch and not settings["model"]:
        problems.append(f"model: {BATCH} needs the name that the server knows the model by; pass --model")
    if not batch and (settings["model"] or settings["endpoint"]):
        problems.append(f"model and endpoint go with --format {BATCH}")
    temperature = settings["temperature"]
    if type(temperature) not in (int, float) or not 0 <= temperature <= 10:
        problems.append(f"temperature: must be a number from 0, which is greedy, to 10 (it is {temperature!r})")
    if not settings["field"] or not isinstance(settings["field"], str):
        problems.append("field: must name the key or column of the texts")
    if not catalog.is_safe(to.name + SIDE):
        problems.append(f"to: {str(to)!r} cannot name a file of prompts")
    if problems:
        raise RecipeError(*problems)


class _Round:
    """The work on one round."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Tokenizer,
        files: list[reading.RawFile],
        previous: Previous | None,
        settings: dict[str, Any],
    ) -> None:
        self.settings, self.tokenizer, self.files, self.previous = settings, tokenizer, files, previous
        try:
            self.stats: list[Shard] = [shard_at(file.path, file.name) for file in files]
        except OSError as exc:
            raise SourceError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
        self.head = self._head()
        if previous:
            previous.refuse_others(self.head)
        self.writer = Writer(
            format=settings["format"],
            endpoint=settings["endpoint"],
            model=settings["model"],
            max_new_tokens=settings["max_new_tokens"],
            temperature=float(settings["temperature"]),
            eos_id=tokenizer.eos_id,
        )
        room = settings["max_length"] - settings["max_new_tokens"]
        self.builder = Builder(recipe, tokenizer, room, settings["overlong"], self.writer.sends_text)
        self.counts: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def _head(self) -> dict[str, Any]:
        """The manifest's fields that determine the bytes."""
        tokenizer = self.tokenizer
        return {
            "format_version": manifest.FORMAT_VERSION,
            "kind": kinds.PROMPTS,
            "prompts": self.settings,
            "tokenizer": {
                "name": tokenizer.name,
                "fingerprint": tokenizer.fingerprint,
                **{key: getattr(tokenizer, key) for key in ("vocab_size", "bos", "bos_id", "eos", "eos_id")},
            },
            "inputs": [{"name": s.name, "bytes": s.size, "sha256": sha256_of(s.path)} for s in self.stats],
            "previous": self.previous.digest if self.previous else None,
        }

    def write(self, to: Path, overwrite: bool, progress: Progress) -> tuple[dict[str, Any], bool]:
        """Write the file and what is beside it; the manifest, and whether all of it was there already."""
        side = Path(f"{to}{SIDE}")
        old = self._older(to, side, overwrite)
        if old is not None:
            return old, True
        os.environ.setdefault("RAYON_NUM_THREADS", str(process.usable_cores()))  # see executors.local.executor
        chosen = self._chosen()
        with staging.staging(to.parent, side.name) as staged:
            out, file = staged / "out", staged / "prompts"
            out.mkdir()
            first = self.counts["texts"] and chosen.start
            identity = manifest.digest(self.head)[:8]
            with written(file) as lines, written(out / ENTRIES) as entries, written(out / SKIPPED) as skipped:
                for batch in _batches(self._waiting(chosen, identity)):
                    self._do(batch, lines, entries, skipped)
                    progress("prompts", len(batch))
            self._refuse_changes()
            if not self.left_out:
                (out / SKIPPED).unlink()
            made = self.head | {
                "outputs": [output(path, out) for path in sorted(out.iterdir())],
                "requests": output(file, staged) | {"rows": self.counts["prompts"], "first": first, "id": identity},
                "counts": self._counts(),
                "versions": {"cook": __version__, "numpy": np.__version__},
            }
            del made["requests"]["name"]
            write_bytes(out / manifest.NAME, manifest.seal(made))
            with contextlib.suppress(FileNotFoundError):
                to.unlink()  # without it what is beside it counts for nothing
            staging.publish(out, to.parent, side.name)
            os.rename(file, to)
            sync_folder(to.parent)
        return made, False

    def _older(self, to: Path, side: Path, overwrite: bool) -> dict[str, Any] | None:
        """The manifest of what is there already, if it is up to date. Raises OutputExists."""
        there = is_file(to, "the prompts")
        if there and not side.exists():
            raise OutputExists(f"{to}: is there already, and is not cook's: move it away, or name another file")
        old = older(side, self.head, overwrite or not there)
        if old is None or not there:
            return None
        if sha256_of(to) != old["requests"]["sha256"]:
            if overwrite:
                return None
            raise OutputExists(f"{to}: was changed since it was written; pass --overwrite to write it again")
        return old

    def _refuse_changes(self) -> None:
        for stat in self.stats:
            if stat.changed():
                raise SourceError(f"{stat.path}: changed while it was read; run again")

    def _texts(self) -> Iterator[reading.Raw]:
        """All texts that are not blank."""
        for each in reading.texts(self.files, self.settings["field"]):
            if each.text and not each.text.isspace():
                yield each

    def _chosen(self) -> range:
        """The texts of this round, by their places among all; all are read for that, and checked."""
        for each in reading.texts(self.files, self.settings["field"]):
            self.counts["texts" if each.text and not each.text.isspace() else "blank"] += 1
        texts, rounds, number = self.counts["texts"], self.settings["rounds"], self.settings["round"]
        if not texts:
            raise InputError(f"{self.files[0].path}: no text: nothing to write prompts for")
        chosen = span(texts, rounds, number)
        if not chosen:
            raise InputError(f"round {number} of {rounds} has no text: the rounds before had all {texts:,} of them")
        return chosen

    def _waiting(self, chosen: range, identity: str) -> Iterator[Waiting]:
        texts = itertools.islice(self._texts(), chosen.start, chosen.stop)
        chains: Iterable[list[Row]] = self.previous.chains() if self.previous else ()
        for chain, (text, rows) in enumerate(itertools.zip_longest(texts, chains)):
            custom_id = f"{identity}-{chosen.start + chain}"
            past = history(rows) if rows and text else []
            yield Waiting(chain, text, custom_id, rows or [], past, text.text if text else "")

    def _do(self, batch: list[Waiting], lines: Any, entries: Any, skipped: Any) -> None:
        """Write the prompts and entries of a batch."""
        for each, built in zip(batch, self.builder.build(batch), strict=True):
            if each.place is None:
                _write_rows(entries, each.rows, False)
                continue
            self.counts["in_round"] += 1
            reason = None
            if self.builder.forges(each.place.text):
                reason = SPECIAL_STRING
            elif len(built.own) > self.builder.room:
                reason = TOO_LONG
            follows = not reason and self._follows(each, built)
            _write_rows(entries, each.rows, follows)
            context = each.place.text if reason else each.context
            waiting = {"context": context, "chain": each.chain, "follows": follows}
            entries.write(line(waiting | {"custom_id": None if reason else each.custom_id}))
            if reason:
                self.left_out[reason] += 1
                row = {"file": each.place.file.name, "line": each.place.line, "reason": reason, "tokens": built.tokens}
                skipped.write(line(row))
                continue
            ids = np.concatenate([*built.past, built.own]) if follows else built.own
            lines.write(self.writer.line(each.custom_id, self.builder.text(each, follows), ids))
            self.counts["prompts"] += 1
            self.counts["truncated"] += built.cut
            self.counts["with_history"] += follows
            self.counts["tokens"] += len(ids)
            self.counts["longest"] = max(self.counts["longest"], len(ids))

    def _follows(self, each: Waiting, built: Built) -> bool:
        """Whether the prompt has its history; counts why not."""
        if not each.rows:
            return False
        if not each.past:
            self.broken[NO_PAIRS] += 1
        elif self.builder.past_forges(each.past):
            self.broken[SPECIAL_STRING] += 1
        elif sum(map(len, built.past)) + len(built.own) > self.builder.room:
            self.broken[NO_ROOM] += 1
        else:
            return True
        return False

    def _counts(self) -> dict[str, Any]:
        names = ("texts", "blank", "in_round", "prompts", "with_history", "truncated", "tokens", "longest")
        return {name: self.counts[name] for name in names} | {
            "broken": dict(sorted(self.broken.items())),
            "left_out": dict(sorted(self.left_out.items())),
        }


def _batches(waiting: Iterable[Waiting]) -> Iterator[list[Waiting]]:
    batch, letters = [], 0
    for each in waiting:
        batch.append(each)
        letters += len(each.context) + sum(len(row["context"]) for row in each.past)
        if letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch


def _write_rows(entries: Any, rows: list[Row], follows: bool) -> None:
    """The rows of a chain so far, the last of them with what is now known of it."""
    for row in rows[:-1]:
        entries.write(line(row))
    if rows:
        entries.write(line(rows[-1] | {"followed_by_next": follows}))
