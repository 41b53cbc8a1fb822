"""Prompts and parsed datasets against their manifests."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import orjson

from cook.check.folder import FolderCheck
from cook.core.errors import OutputError, Problem
from cook.core.escapes import escape_controls
from cook.core.recipe import DEFAULT_FIELDS
from cook.core.records import BLANK_QUESTION
from cook.read.lines import ByteRange, LineReader
from cook.shapes.context_qa import parse_entry
from cook.store import kinds, manifest
from cook.store.kinds import SIDECAR_SUFFIX
from cook.store.outputs import file_fault
from cook.synthesis.answer_files import FAILED, LEFT_OUT, RERUN, SKIPPED
from cook.synthesis.prompt_files import ENTRIES
from cook.synthesis.rounds import read_round_rows


class SynthesisCheck(FolderCheck):
    """The part that prompts and parsed datasets share: files of lines."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.amounts: dict[str, int] = {}

    def contents(self) -> dict[str, int]:
        """The amounts that were read: prompts and tokens, or entries and pairs."""
        return self.amounts

    def run(self, tokenizer: str | None, pool: Executor) -> None:  # noqa: ARG002 - its lines need no tokenizer
        """Check files, lines, and the counts of lines."""
        self.check_files(pool)
        self.check_lines()

    def check_lines(self) -> None:
        """Check the lines of the files, and the counts in the manifest."""
        raise NotImplementedError

    def read_entry_rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a file of entries. A row that is not an entry is a finding and ends the reading."""
        try:
            yield from read_round_rows(self.folder / name)
        except OutputError as exc:
            self.manifest_finding(str(exc).removeprefix(escape_controls(f"{self.folder}/")))
            self.readable = False


class PromptsCheck(SynthesisCheck):
    """The check of a file of prompts and of the folder beside it."""

    @property
    def prompts(self) -> Path:
        """The file of prompts."""
        return self.folder.with_name(self.folder.name.removesuffix(SIDECAR_SUFFIX))

    def check_lines(self) -> None:
        """Check the file of prompts against the entries beside it."""
        requests = self.fields["requests"]
        self.note_damage(self.prompts.name, file_fault(self.prompts, requests))
        head = {key: self.fields.get(key) for key in kinds.KINDS[kinds.PROMPTS].identity}
        self.expect_equal("requests.id", requests["id"], manifest.digest(head)[:8])
        prompt_ids: list[str] = []
        entries = 0
        for row in self.read_entry_rows(ENTRIES) if ENTRIES not in self.damaged else ():
            if "follows" in row:
                entries += 1
                prompt_ids += [row["custom_id"]] if row["custom_id"] is not None else []
        if not self.readable:
            return
        counts = self.fields["counts"]
        found: Counter[str] = Counter()
        with self.prompts.open("rb") as file:
            for number, line in enumerate(file, 1):
                self._check_prompt(number, line, prompt_ids[number - 1] if number <= len(prompt_ids) else None, found)
        self.amounts = {"prompts": found["prompts"], **({"tokens": found["tokens"]} if found["with_ids"] else {})}
        self.expect_equal("requests.rows", requests["rows"], found["prompts"])
        self.expect_equal("counts.prompts", counts["prompts"], found["prompts"])
        self.expect_equal(f"{ENTRIES}: ids of prompts", len(prompt_ids), found["prompts"])
        self.expect_equal("counts.in_round", counts["in_round"], entries)
        self.expect_equal("counts.left_out: their sum", sum(counts["left_out"].values()), entries - found["prompts"])
        if found["with_ids"]:
            self.expect_equal("counts.tokens", counts["tokens"], found["tokens"])
            self.expect_equal("counts.longest", counts["longest"], found["longest"])
        settings = self.fields["prompts"]
        most = settings["max_length"] - settings["max_new_tokens"]
        if counts["longest"] > most:
            self.manifest_finding(
                f"counts.longest is {counts['longest']:,}; expected at most {most:,}, to leave room for an answer"
            )

    def _check_prompt(self, number: int, line: bytes, expected: str | None, found: Counter[str]) -> None:
        note = functools.partial(self.findings.note, self.prompts.name, number)
        try:
            row = orjson.loads(line)
            custom_id = row["custom_id"]
            body = row.get("body", row)
            ids = row.get("prompt_token_ids", body.get("prompt"))
            text = body["messages"][0]["content"] if "messages" in body else row.get("prompt", "")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
            note(f"is not a prompt as cook writes it: {type(exc).__name__}: {exc}")
            return
        found["prompts"] += 1
        if custom_id != expected:
            note(f"custom_id is {custom_id!r}; expected {expected!r}, as in {ENTRIES}")
        if not isinstance(ids, list):
            if not isinstance(text, str) or not text:
                note("has neither text nor token ids")
            return
        found["with_ids"] += 1
        found["tokens"] += len(ids)
        found["longest"] = max(found["longest"], len(ids))
        settings, tokenizer = self.fields["prompts"], self.fields["tokenizer"]
        most = settings["max_length"] - settings["max_new_tokens"]
        if not 1 <= len(ids) <= most:
            note(f"has {len(ids):,} tokens; expected 1 to {most:,}")
        if strange := [i for i in ids if type(i) is not int or not 0 <= i < tokenizer["vocab_size"]]:
            note(f"has the id {strange[0]!r}; expected 0 to {tokenizer['vocab_size'] - 1:,}")
        if tokenizer["bos_id"] is not None and ids[:1] != [tokenizer["bos_id"]]:
            note(f"begins with the id {ids[:1]}; expected BOS, {tokenizer['bos_id']}")


class ParsedCheck(SynthesisCheck):
    """The check of a dataset that `cook parse` wrote."""

    def check_lines(self) -> None:
        """Check shards, chains, and the rows of what was left out."""
        counts = self.fields["counts"]
        found: Counter[str] = Counter()
        in_rounds = bool(self.fields.get("prompts"))
        for output in self.fields["outputs"]:
            name = output["name"]
            if name in self.damaged:
                continue
            if name.startswith(f"{LEFT_OUT}/"):
                with (self.folder / name).open("rb") as file:
                    found[name] = sum(1 for _ in file)
                continue
            self._check_shard(name, found)
            if in_rounds:
                self._check_chains(name)
        self.amounts = {"entries": found["entries"], "pairs": found["pairs"]}
        if not self.readable:
            return
        self.expect_equal("counts.entries", counts["entries"], found["entries"])
        rounds = self.fields["prompts"]["prompts"]["round"] if in_rounds else 1
        for key in ("pairs", "with_pairs"):  # of this round's answers; shards also hold those of earlier rounds
            if rounds == 1:
                self.expect_equal(f"counts.{key}", counts[key], found[key])
            elif counts[key] > found[key]:
                self.manifest_finding(f"counts.{key} is {counts[key]:,}; expected at most {found[key]:,}")
        unanswered = counts["failed"] + counts["missing"] if in_rounds else 0
        for name, rows in ((SKIPPED, sum(counts["left_out"].values())), (FAILED, unanswered), (RERUN, unanswered)):
            self.expect_equal(f"{LEFT_OUT}/{name}: rows", found[f"{LEFT_OUT}/{name}"], rows)

    def _check_shard(self, name: str, found: Counter[str]) -> None:
        path = str(self.folder / name)
        for line in LineReader(ByteRange(path, 0, None)):
            entry = [line] if isinstance(line, Problem) else parse_entry(path, line, DEFAULT_FIELDS)
            if isinstance(entry, list):
                for problem in entry:
                    self.findings.note(name, problem.line, f"{problem.field}: {problem.what}".removeprefix(": "))
                self.readable = False
                continue
            found["entries"] += 1
            found["pairs"] += len(entry.pairs)
            found["with_pairs"] += bool(entry.pairs)
            for pair, reason in entry.left_out:
                what = "question" if reason == BLANK_QUESTION else "answer"
                self.findings.note(
                    name, entry.line, f"pair {pair}: its {what} is blank; cook parse writes no such pair"
                )

    def _check_chains(self, name: str) -> None:
        """Check that `inherit_from_prev` of each entry agrees with `followed_by_next` of the one before."""
        note: Callable[[int, str], None] = functools.partial(self.findings.note, name)
        before: dict[str, Any] | None = None
        for number, row in enumerate(self.read_entry_rows(name), 1):
            after = before if before and before["chain"] == row["chain"] else None
            if row["inherit_from_prev"] and not (after and after.get("followed_by_next")):
                note(
                    number,
                    "inherit_from_prev is true; expected false: followed_by_next before it is not true",
                )
            if row["inherit_from_prev"] and not row[DEFAULT_FIELDS.pairs]:
                note(number, "inherit_from_prev is true; expected false, since the entry has no pairs")
            before = row
