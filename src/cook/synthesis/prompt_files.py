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
from cook.core.files import fsync_folder, json_line, open_fsynced, output_row, sha256_of, write_bytes
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.core.results import OutputResult
from cook.executors import process
from cook.read.source import Shard, shard_at
from cook.store import kinds, manifest, staging
from cook.store.kinds import SIDECAR_SUFFIX
from cook.store.replace import check_output_file, existing_result
from cook.synthesis import raw_texts
from cook.synthesis.prompt_tokens import OVERLONG, PendingText, PromptBuilder, PromptIds
from cook.synthesis.requests import CHAT, ENDPOINTS, FORMATS, OPENAI_BATCH, PromptWriter
from cook.synthesis.rounds import PreviousRound, Row, history, round_range
from cook.tokenizer.loading import Tokenizer, resolve_tokenizer

Format = Literal["jsonl", "openai-batch"]
Endpoint = Literal["chat", "completions"]
Overlong = Literal["drop", "truncate", "error"]
ENTRIES, SKIPPED = "entries.jsonl", "skipped.jsonl"
BATCH_CHARS = 2 << 20  # of text encoded in one call
MAX_ROUNDS = 1 << 20

# Why a text gets no prompt, and why a prompt has no history though there is one.
TOO_LONG, SPECIAL_STRING = "overlong", "special_string"
NO_PAIRS, NO_ROOM = "no_pairs", "did_not_fit"


class Prompted(OutputResult):
    """A file of prompts that is written; its manifest is in the folder beside it."""

    @property
    def file(self) -> Path:
        """The prompts."""
        return self.folder.with_name(self.folder.name.removesuffix(SIDECAR_SUFFIX))


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
        "endpoint": (endpoint or CHAT) if format == OPENAI_BATCH else endpoint,
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
    _check_settings(settings, to)
    given = [raw] if isinstance(raw, (str, Path)) else raw
    check_output_file(to, "the prompts", map(Path, given))
    files = raw_texts.find_files(given)
    before = PreviousRound(previous) if previous is not None else None
    settings["round"] = before.round + 1 if before else 1
    fields, up_to_date = _RoundWriter(recipe, resolve_tokenizer(recipe), files, before, settings).write(
        to, overwrite, progress or no_progress
    )
    return Prompted(Path(f"{to}{SIDECAR_SUFFIX}"), fields, up_to_date, time.perf_counter() - begun)


def _check_settings(settings: dict[str, Any], to: Path) -> None:
    """Raise RecipeError, listing every setting that is wrong."""
    problems = []

    def check_integer(name: str, low: int, high: int) -> None:
        if not (type(settings[name]) is int and low <= settings[name] <= high):
            problems.append(f"{name}: must be a whole number from {low:,} to {high:,} (it is {settings[name]!r})")

    def check_choice(name: str, choices: Iterable[str]) -> None:
        if settings[name] not in choices:
            problems.append(f"{name}: must be one of {', '.join(choices)} (it is {settings[name]!r})")

    check_integer("rounds", 1, MAX_ROUNDS)
    check_integer("max_new_tokens", 1, max(1, settings["max_length"] - 2))
    check_choice("overlong", OVERLONG)
    check_choice("format", FORMATS)
    if settings["endpoint"] is not None:
        check_choice("endpoint", ENDPOINTS)
    batch = settings["format"] == OPENAI_BATCH
    if batch and not settings["model"]:
        problems.append(f"model: {OPENAI_BATCH} needs the name that the server knows the model by; pass --model")
    if not batch and (settings["model"] or settings["endpoint"]):
        problems.append(f"model and endpoint go with --format {OPENAI_BATCH}")
    temperature = settings["temperature"]
    if type(temperature) not in (int, float) or not 0 <= temperature <= 10:
        problems.append(f"temperature: must be a number from 0, which is greedy, to 10 (it is {temperature!r})")
    if not settings["field"] or not isinstance(settings["field"], str):
        problems.append("field: must name the key or column of the texts")
    if not catalog.is_safe(to.name + SIDECAR_SUFFIX):
        problems.append(f"to: {str(to)!r} cannot name a file of prompts")
    if problems:
        raise RecipeError(*problems)


class _RoundWriter:
    """The work on one round."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Tokenizer,
        files: list[raw_texts.RawFile],
        previous: PreviousRound | None,
        settings: dict[str, Any],
    ) -> None:
        self.settings, self.tokenizer, self.files, self.previous = settings, tokenizer, files, previous
        try:
            self.input_files: list[Shard] = [shard_at(file.path, file.name) for file in files]
        except OSError as exc:
            raise SourceError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
        self.head = self._identity_fields()
        if previous:
            previous.require_same_settings(self.head)
        self.writer = PromptWriter(
            format=settings["format"],
            endpoint=settings["endpoint"],
            model=settings["model"],
            max_new_tokens=settings["max_new_tokens"],
            temperature=float(settings["temperature"]),
            eos_id=tokenizer.eos_id,
        )
        room = settings["max_length"] - settings["max_new_tokens"]
        self.builder = PromptBuilder(recipe, tokenizer, room, settings["overlong"], self.writer.sends_text)
        self.counts: Counter[str] = Counter()
        self.broken_chains: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def _identity_fields(self) -> dict[str, Any]:
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
            "inputs": [{"name": s.name, "bytes": s.size, "sha256": sha256_of(s.path)} for s in self.input_files],
            "previous": self.previous.digest if self.previous else None,
        }

    def write(self, to: Path, overwrite: bool, progress: Progress) -> tuple[dict[str, Any], bool]:
        """Write the file and what is beside it; the manifest, and whether all of it was there already."""
        side = Path(f"{to}{SIDECAR_SUFFIX}")
        old = self._existing_result(to, side, overwrite)
        if old is not None:
            return old, True
        os.environ.setdefault("RAYON_NUM_THREADS", str(process.usable_cores()))  # see executors.local.executor
        chosen = self._select_round()
        with staging.staging_folder(to.parent, side.name) as staged:
            out, file = staged / "out", staged / "prompts"
            out.mkdir()
            first = self.counts["texts"] and chosen.start
            identity = manifest.digest(self.head)[:8]
            with (
                open_fsynced(file) as lines,
                open_fsynced(out / ENTRIES) as entries,
                open_fsynced(out / SKIPPED) as skipped,
            ):
                for batch in _batches(self._pending_texts(chosen, identity)):
                    self._write_batch(batch, lines, entries, skipped)
                    progress("prompts", len(batch))
            self._require_unchanged()
            if not self.left_out:
                (out / SKIPPED).unlink()
            fields = self.head | {
                "outputs": [output_row(path, out) for path in sorted(out.iterdir())],
                "requests": output_row(file, staged) | {"rows": self.counts["prompts"], "first": first, "id": identity},
                "counts": self._counts(),
                "versions": {"cook": __version__, "numpy": np.__version__},
            }
            del fields["requests"]["name"]
            write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
            with contextlib.suppress(FileNotFoundError):
                to.unlink()  # without it what is beside it counts for nothing
            staging.publish(out, to.parent, side.name)
            os.rename(file, to)
            fsync_folder(to.parent)
        return fields, False

    def _existing_result(self, to: Path, side: Path, overwrite: bool) -> dict[str, Any] | None:
        """The manifest of what is there already, if it is up to date. Raises OutputExists."""
        there = check_output_file(to, "the prompts")
        if there and not side.exists():
            raise OutputExists(f"{to}: is there already, and is not cook's: move it away, or name another file")
        old = existing_result(side, self.head, overwrite or not there)
        if old is None or not there:
            return None
        if sha256_of(to) != old["requests"]["sha256"]:
            if overwrite:
                return None
            raise OutputExists(f"{to}: was changed since it was written; pass --overwrite to write it again")
        return old

    def _require_unchanged(self) -> None:
        for stat in self.input_files:
            stat.require_unchanged()

    def _texts(self) -> Iterator[raw_texts.RawText]:
        """All texts that are not blank."""
        for each in raw_texts.read_texts(self.files, self.settings["field"]):
            if each.text and not each.text.isspace():
                yield each

    def _select_round(self) -> range:
        """The texts of this round, by their places among all; all are read for that, and checked."""
        for each in raw_texts.read_texts(self.files, self.settings["field"]):
            self.counts["texts" if each.text and not each.text.isspace() else "blank"] += 1
        texts, rounds, number = self.counts["texts"], self.settings["rounds"], self.settings["round"]
        if not texts:
            raise InputError(f"{self.files[0].path}: no text: nothing to write prompts for")
        chosen = round_range(texts, rounds, number)
        if not chosen:
            raise InputError(f"round {number} of {rounds} has no text: the rounds before had all {texts:,} of them")
        return chosen

    def _pending_texts(self, chosen: range, identity: str) -> Iterator[PendingText]:
        texts = itertools.islice(self._texts(), chosen.start, chosen.stop)
        chains: Iterable[list[Row]] = self.previous.chains() if self.previous else ()
        for chain, (text, rows) in enumerate(itertools.zip_longest(texts, chains)):
            custom_id = f"{identity}-{chosen.start + chain}"
            earlier_rows = history(rows) if rows and text else []
            yield PendingText(chain, text, custom_id, rows or [], earlier_rows, text.text if text else "")

    def _write_batch(self, batch: list[PendingText], lines: Any, entries: Any, skipped: Any) -> None:
        """Write the prompts and entries of a batch."""
        for each, prompt_ids in zip(batch, self.builder.build(batch), strict=True):
            if each.raw_text is None:
                _write_rows(entries, each.rows, False)
                continue
            self.counts["in_round"] += 1
            reason = None
            if self.builder.contains_special_token(each.raw_text.text):
                reason = SPECIAL_STRING
            elif len(prompt_ids.own) > self.builder.room:
                reason = TOO_LONG
            follows = not reason and self._has_history(each, prompt_ids)
            _write_rows(entries, each.rows, follows)
            context = each.raw_text.text if reason else each.context
            pending_row = {"context": context, "chain": each.chain, "follows": follows}
            entries.write(json_line(pending_row | {"custom_id": None if reason else each.custom_id}))
            if reason:
                self.left_out[reason] += 1
                row = {
                    "file": each.raw_text.file.name,
                    "line": each.raw_text.line,
                    "reason": reason,
                    "tokens": prompt_ids.tokens,
                }
                skipped.write(json_line(row))
                continue
            ids = np.concatenate([*prompt_ids.history_ids, prompt_ids.own]) if follows else prompt_ids.own
            lines.write(self.writer.line(each.custom_id, self.builder.text(each, follows), ids))
            self.counts["prompts"] += 1
            self.counts["truncated"] += prompt_ids.cut
            self.counts["with_history"] += follows
            self.counts["tokens"] += len(ids)
            self.counts["longest"] = max(self.counts["longest"], len(ids))

    def _has_history(self, each: PendingText, prompt_ids: PromptIds) -> bool:
        """Whether the prompt has its history; counts why not."""
        if not each.rows:
            return False
        if not each.history:
            self.broken_chains[NO_PAIRS] += 1
        elif self.builder.history_contains_special_token(each.history):
            self.broken_chains[SPECIAL_STRING] += 1
        elif sum(map(len, prompt_ids.history_ids)) + len(prompt_ids.own) > self.builder.room:
            self.broken_chains[NO_ROOM] += 1
        else:
            return True
        return False

    def _counts(self) -> dict[str, Any]:
        names = ("texts", "blank", "in_round", "prompts", "with_history", "truncated", "tokens", "longest")
        return {name: self.counts[name] for name in names} | {
            "broken": dict(sorted(self.broken_chains.items())),
            "left_out": dict(sorted(self.left_out.items())),
        }


def _batches(waiting: Iterable[PendingText]) -> Iterator[list[PendingText]]:
    batch, letters = [], 0
    for each in waiting:
        batch.append(each)
        letters += len(each.context) + sum(len(row["context"]) for row in each.history)
        if letters >= BATCH_CHARS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch


def _write_rows(entries: Any, rows: list[Row], follows: bool) -> None:
    """The rows of a chain so far, the last of them with what is now known of it."""
    for row in rows[:-1]:
        entries.write(json_line(row))
    if rows:
        entries.write(json_line(rows[-1] | {"followed_by_next": follows}))
