"""What the loop wrote held against its manifests: a file of prompts and what is beside it; a parsed dataset."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import orjson

from cook.check.folder import Check, damage_of
from cook.core.errors import OutputError, Problem
from cook.core.escapes import escaped
from cook.core.recipe import FIELDS
from cook.core.records import BLANK_QUESTION
from cook.read.lines import LineReader, Part
from cook.shapes.context_qa import parse
from cook.store import kinds, manifest
from cook.store.kinds import SIDE
from cook.synthesis.answer_files import FAILED, LEFT_OUT, RERUN, SKIPPED
from cook.synthesis.prompt_files import ENTRIES
from cook.synthesis.rounds import read_rows


class LoopCheck(Check):
    """What both have in common: files of lines."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.held: dict[str, int] = {}

    def holds(self) -> dict[str, int]:
        """See Check."""
        return self.held

    def look(self, tokenizer: str | None, pool: Executor) -> None:  # noqa: ARG002 - see Check
        """See Check."""
        named = {output["name"] for output in self.fields["outputs"]}
        for output in self.fields["outputs"]:
            self.file(self.folder / output["name"], output["name"], output)
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name != manifest.NAME and name not in named:
                self.findings.note(name, None, "is here; expected only the files that the manifest names")
        self.lines()

    def lines(self) -> None:
        """Rows, and the counts that they give."""

    def file(self, path: Path, name: str, told: dict[str, Any]) -> None:
        """Size and hash of a file."""
        if what := damage_of((path, told["bytes"], told["sha256"])):
            self._damage(name, what)

    def rows(self, name: str) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The rows of a file of entries; what is none is a finding, and the last that is looked at."""
        try:
            yield from read_rows(self.folder / name)
        except OutputError as exc:
            self.wrong(str(exc).removeprefix(escaped(f"{self.folder}/")))
            self.whole = False


class PromptsCheck(LoopCheck):
    """A file of prompts, and the folder beside it."""

    @property
    def prompts(self) -> Path:
        """The file of prompts."""
        return self.folder.with_name(self.folder.name.removesuffix(SIDE))

    def lines(self) -> None:
        """See LoopCheck."""
        name, requests = self.prompts.name, self.fields["requests"]
        self.file(self.prompts, name, requests)
        head = {key: self.fields.get(key) for key in kinds.KINDS[kinds.PROMPTS].identity}
        self.equal("requests.id", requests["id"], manifest.digest(head)[:8])
        asked: list[str] = []
        entries = 0
        for row in self.rows(ENTRIES) if ENTRIES not in self.damaged else ():
            if "follows" in row:
                entries += 1
                asked += [row["custom_id"]] if row["custom_id"] is not None else []
        if not self.whole:
            return
        counts = self.fields["counts"]
        told: Counter[str] = Counter()
        with self.prompts.open("rb") as file:
            for number, line in enumerate(file, 1):
                self._prompt(number, line, asked[number - 1] if number <= len(asked) else None, told)
        self.held = {"prompts": told["prompts"], **({"tokens": told["tokens"]} if told["with_ids"] else {})}
        self.equal("requests.rows", requests["rows"], told["prompts"])
        self.equal("counts.prompts", counts["prompts"], told["prompts"])
        self.equal(f"{ENTRIES}: ids of prompts", len(asked), told["prompts"])
        self.equal("counts.in_round", counts["in_round"], entries)
        self.equal("counts.left_out: their sum", sum(counts["left_out"].values()), entries - told["prompts"])
        if told["with_ids"]:
            self.equal("counts.tokens", counts["tokens"], told["tokens"])
            self.equal("counts.longest", counts["longest"], told["longest"])
        settings = self.fields["prompts"]
        most = settings["max_length"] - settings["max_new_tokens"]
        if counts["longest"] > most:
            self.wrong(
                f"counts.longest is {counts['longest']:,}; expected at most {most:,}, to leave room for an answer"
            )

    def _prompt(self, number: int, line: bytes, expected: str | None, told: Counter[str]) -> None:
        note = functools.partial(self.findings.note, self.prompts.name, number)
        try:
            row = orjson.loads(line)
            custom_id = row["custom_id"]
            body = row.get("body", row)
            ids = row.get("prompt_token_ids", body.get("prompt"))
            text = body["messages"][0]["content"] if "messages" in body else row.get("prompt", "")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
            note(f"is no prompt that cook writes: {type(exc).__name__}: {exc}")
            return
        told["prompts"] += 1
        if custom_id != expected:
            note(f"custom_id is {custom_id!r}; expected {expected!r}, as in {ENTRIES}")
        if not isinstance(ids, list):
            if not isinstance(text, str) or not text:
                note("has neither text nor token ids")
            return
        told["with_ids"] += 1
        told["tokens"] += len(ids)
        told["longest"] = max(told["longest"], len(ids))
        settings, tokenizer = self.fields["prompts"], self.fields["tokenizer"]
        most = settings["max_length"] - settings["max_new_tokens"]
        if not 1 <= len(ids) <= most:
            note(f"has {len(ids):,} tokens; expected 1 to {most:,}")
        if strange := [i for i in ids if type(i) is not int or not 0 <= i < tokenizer["vocab_size"]]:
            note(f"has the id {strange[0]!r}; expected 0 to {tokenizer['vocab_size'] - 1:,}")
        if tokenizer["bos_id"] is not None and ids[:1] != [tokenizer["bos_id"]]:
            note(f"begins with the id {ids[:1]}; expected BOS, {tokenizer['bos_id']}")


class ParsedCheck(LoopCheck):
    """A dataset that `cook parse` wrote."""

    def lines(self) -> None:
        """See LoopCheck."""
        counts = self.fields["counts"]
        told: Counter[str] = Counter()
        in_rounds = bool(self.fields.get("prompts"))
        for output in self.fields["outputs"]:
            name = output["name"]
            if name in self.damaged:
                continue
            if name.startswith(f"{LEFT_OUT}/"):
                with (self.folder / name).open("rb") as file:
                    told[name] = sum(1 for _ in file)
                continue
            self._shard(name, told)
            if in_rounds:
                self._chains(name)
        self.held = {"entries": told["entries"], "pairs": told["pairs"]}
        if not self.whole:
            return
        self.equal("counts.entries", counts["entries"], told["entries"])
        rounds = self.fields["prompts"]["prompts"]["round"] if in_rounds else 1
        for key in ("pairs", "with_pairs"):  # counted of the answers: entries of earlier rounds have theirs beside them
            if rounds == 1:
                self.equal(f"counts.{key}", counts[key], told[key])
            elif counts[key] > told[key]:
                self.wrong(f"counts.{key} is {counts[key]:,}; expected at most {told[key]:,}")
        unanswered = counts["failed"] + counts["missing"] if in_rounds else 0
        for name, rows in ((SKIPPED, sum(counts["left_out"].values())), (FAILED, unanswered), (RERUN, unanswered)):
            self.equal(f"{LEFT_OUT}/{name}: rows", told[f"{LEFT_OUT}/{name}"], rows)

    def _shard(self, name: str, told: Counter[str]) -> None:
        path = str(self.folder / name)
        for line in LineReader(Part(path, 0, None)):
            entry = [line] if isinstance(line, Problem) else parse(path, line, FIELDS)
            if isinstance(entry, list):
                for problem in entry:
                    self.findings.note(name, problem.line, f"{problem.field}: {problem.what}".removeprefix(": "))
                self.whole = False
                continue
            told["entries"] += 1
            told["pairs"] += len(entry.pairs)
            told["with_pairs"] += bool(entry.pairs)
            for pair, reason in entry.left_out:
                what = "question" if reason == BLANK_QUESTION else "answer"
                self.findings.note(name, entry.line, f"pair {pair}: its {what} is blank; cook parse writes none")

    def _chains(self, name: str) -> None:
        """That entries agree with those before them on whether they go on."""
        note: Callable[[int, str], None] = functools.partial(self.findings.note, name)
        before: dict[str, Any] | None = None
        for number, row in enumerate(self.rows(name), 1):
            after = before if before and before["chain"] == row["chain"] else None
            if row["inherit_from_prev"] and not (after and after.get("followed_by_next")):
                note(number, "inherit_from_prev is true; expected false, as the entry before is not followed by it")
            if row["inherit_from_prev"] and not row[FIELDS.pairs]:
                note(number, "inherit_from_prev is true; expected false, as it has no pairs")
            before = row
