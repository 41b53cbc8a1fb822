"""Answers + the entries that wait for them -> a dataset of a collection, which can be cooked, or be continued.

    answers   lines of text or of a batch's results, in any order  -> where the answer to each prompt stands
    entries   in their own order, each with its answer's pairs      -> COLLECTION/NAME/shard/*.jsonl
    rest      what was left out, and why                            -> COLLECTION/NAME/left-out/

Beside the shards lie the manifest and, if there is any, what was left out: `skipped.jsonl` (pieces that gave no pair),
`failed.jsonl` (prompts without an answer) and `rerun.jsonl`, the lines of those prompts, to be sent again as they are.
An entry without an answer is written without pairs. Memory holds twelve bytes a prompt, and a line.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from cook._version import __version__
from cook.core import catalog
from cook.core.errors import (
    BadLines,
    InputError,
    OutputError,
    Problem,
    RecipeError,
    SourceError,
    read_error,
    refuse_empty,
)
from cook.core.files import fsync_folder, json_line, open_fsynced, output_row, sha256_of, write_bytes
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.core.results import OutputResult
from cook.read.lines import BOM, MAX_LINE_BYTES, ByteRange, Line, LineReader, open_shard
from cook.read.source import Shard, shard_at
from cook.shapes.formatter import Pair
from cook.store import kinds, manifest, staging
from cook.store.kinds import SIDECAR_SUFFIX
from cook.store.outputs import read_cooked
from cook.store.replace import existing_result
from cook.synthesis.pair_parser import LeftOut, PairParser
from cook.synthesis.prompt_files import ENTRIES
from cook.synthesis.requests import ANSWER_FIELDS, Answer, AnswerFields, read_answer
from cook.synthesis.rounds import Row, complete_entry, make_entry, read_round_rows

SHARD_BYTES = 256 << 20
MAX_PROBLEMS = 20
MAX_EXCERPT_CHARS = 500  # letters kept of a piece that gave no pair
LEFT_OUT, SKIPPED, FAILED, RERUN = "left-out", "skipped.jsonl", "failed.jsonl", "rerun.jsonl"
REASON_FAILED, REASON_MISSING = "failed", "missing"
NO_LINE = 0  # of a prompt for which no line has been found


class Parsed(OutputResult):
    """A dataset that is parsed."""


def parse(
    answers: str | Path | Sequence[str | Path],
    to: str | Path,
    *,
    prompts: str | Path | None = None,
    unique_questions: bool = False,
    fields: AnswerFields | dict[str, str] = ANSWER_FIELDS,
    pair_template: str | None = None,
    delimiter: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Parsed:
    """Parse a model's answers into the dataset `to`, COLLECTION/NAME: all that `cook parse` does from a shell.

    `prompts` is the file that `cook.prompts` wrote, whose contexts and templates count; without it each line of
    `answers` must have its context. Where several lines answer one prompt, the first that did not fail counts.

    Raises RecipeError for settings, SourceError, BadLines for lines that are no answers, OutputError, OutputExists.
    """
    refuse_empty(answers=answers, to=to, prompts=prompts)
    begun = time.perf_counter()
    to = Path(to)
    if not catalog.is_dataset_name(to.name):
        raise RecipeError(f"to: {str(to)!r} cannot name a dataset; pass COLLECTION/NAME")
    if isinstance(fields, dict):
        if unknown := [name for name in fields if name not in AnswerFields._fields]:
            raise RecipeError(f"fields: there is no {unknown[0]!r}; there are {', '.join(AnswerFields._fields)}")
        fields = AnswerFields(**fields)
    prompt_file = _PromptFile(Path(prompts)) if prompts is not None else None
    if prompt_file and (pair_template or delimiter is not None):
        raise RecipeError("pair_template and delimiter are those of the prompts; leave them out")
    settings: dict[str, Any] = {
        "unique_questions": unique_questions,
        "fields": fields._asdict(),
        "pair_template": Recipe.pair_template if pair_template is None else pair_template,
        "delimiter": Recipe.delimiter if delimiter is None else delimiter,
    }
    if prompt_file:
        settings |= {key: prompt_file.manifest["prompts"][key] for key in ("pair_template", "delimiter")}
    parser = PairParser(settings["pair_template"], settings["delimiter"], unique_questions)
    paths = [Path(path) for path in ([answers] if isinstance(answers, (str, Path)) else answers)]
    parsing = _AnswerParsing(paths, prompt_file, parser, fields, settings)
    manifest_fields, up_to_date = parsing.write(to, overwrite, progress or no_progress)
    return Parsed(to, manifest_fields, up_to_date, time.perf_counter() - begun)


class _PromptFile:
    """A file of prompts and what is beside it, checked. Raises OutputError."""

    def __init__(self, file: Path) -> None:
        self.file = file
        side = Path(f"{file}{SIDECAR_SUFFIX}")
        if not file.exists():
            raise OutputError(f"{file}: no such file; --prompts names what `cook prompts` wrote")
        if not side.exists():
            raise OutputError(f"{file}: was not written by `cook prompts`, or was moved without {side.name} beside it")
        self.manifest = read_cooked(side).manifest
        if self.manifest.get("kind") != kinds.PROMPTS:
            raise OutputError(f"{side}: is not what `cook prompts` writes beside a file")
        self.entries = side / ENTRIES
        requests = self.manifest["requests"]
        if sha256_of(file) != requests["sha256"]:
            raise OutputError(f"{file}: was changed since `cook prompts` wrote it; write it again with --overwrite")
        self.identity, self.first = requests["id"], requests["first"]
        self.size: int = self.manifest["counts"]["in_round"]

    def slot(self, custom_id: str) -> int | None:
        """The place of a prompt in its round, from its id; None if it is none of this file's."""
        identity, _, number = custom_id.rpartition("-")
        if identity != self.identity or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        slot = int(number) - self.first
        return slot if 0 <= slot < self.size else None


class _AnswerParsing:
    """The work on one dataset."""

    def __init__(
        self,
        paths: list[Path],
        prompt_file: _PromptFile | None,
        parser: PairParser,
        fields: AnswerFields,
        settings: dict[str, Any],
    ) -> None:
        self.prompt_file, self.parser, self.fields = prompt_file, parser, fields
        try:
            self.input_files: list[Shard] = [shard_at(path) for path in paths]
        except OSError as exc:
            raise SourceError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.head = self._identity_fields(settings)

    def _identity_fields(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The manifest's fields that determine the bytes."""
        prompt_fields = None
        if self.prompt_file:
            fields = self.prompt_file.manifest
            prompt_fields = {key: fields[key] for key in ("prompts", "tokenizer", "inputs", "previous")}
            prompt_fields["sha256"] = manifest.digest(fields)
        return {
            "format_version": manifest.FORMAT_VERSION,
            "kind": kinds.PARSE,
            "parse": settings,
            "prompts": prompt_fields,
            "inputs": [{"name": s.name, "bytes": s.size, "sha256": sha256_of(s.path)} for s in self.input_files],
        }

    def write(self, to: Path, overwrite: bool, progress: Progress) -> tuple[dict[str, Any], bool]:
        """Write the dataset's folder; its manifest, and whether it was there already."""
        old = existing_result(to, self.head, overwrite)
        if old is not None:
            return old, True
        with staging.staging_folder(to.parent, to.name) as staged:
            out = staged / "out"
            (out / "shard").mkdir(parents=True)
            (out / LEFT_OUT).mkdir()
            files = [_decompressed(stat.path, staged / f"answers-{at}") for at, stat in enumerate(self.input_files)]
            with _ShardWriter(out / "shard") as shards, _LeftOutFiles(out / LEFT_OUT) as left_out_files:
                rows = (
                    self._entries_of_prompts(files, left_out_files)
                    if self.prompt_file
                    else self._entries_with_context(files, left_out_files)
                )
                for row in rows:
                    self.counts["entries"] += 1
                    shards.write(json_line(row))
                    progress("parse", 1)
            for stat in self.input_files:
                stat.require_unchanged()
            if not self.counts["entries"]:
                raise InputError(f"{self.input_files[0].path}: no answer: nothing to write")
            if not any((out / LEFT_OUT).iterdir()):
                (out / LEFT_OUT).rmdir()
            else:
                fsync_folder(out / LEFT_OUT)
            fsync_folder(out / "shard")
            fields = self.head | {
                "outputs": [output_row(path, out) for path in sorted(out.glob("*/*.jsonl"))],
                "counts": self._counts(),
                "versions": {"cook": __version__},
            }
            write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
            staging.publish(out, to.parent, to.name)
        return fields, False

    def _counts(self) -> dict[str, Any]:
        names = ("entries", "answers", "with_pairs", "pairs", "failed", "missing", "repeated")
        left_out = {reason: self.left_out[reason] for reason in sorted(self.left_out)}
        return {name: self.counts[name] for name in names} | {"left_out": left_out}

    def _entries_with_context(self, files: list[Path], left_out_files: _LeftOutFiles) -> Iterator[Row]:
        """Entries of lines that have their own context."""
        for each in self._answers(files, self._require_context):
            assert each.context is not None
            if each.failure is None:
                yield make_entry(each.context, self._parse_pairs(each, left_out_files))

    def _require_context(self, each: Answer) -> Problem | None:
        if each.context is None:
            what = f"{self.fields.context} is missing: without --prompts a line must have its context"
            return Problem("", 0, "", what)
        return None

    def _entries_of_prompts(self, files: list[Path], left_out_files: _LeftOutFiles) -> Iterator[Row]:
        """Entries of the prompts, in their order, with the answers found for them."""
        prompt_file = self.prompt_file
        assert prompt_file is not None
        at, file_numbers = self._index_answers(files)
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(file.open("rb")) for file in files]
            requests = stack.enter_context(prompt_file.file.open("rb"))
            for row in read_round_rows(prompt_file.entries):
                if "follows" not in row:
                    yield row
                    continue
                pairs: list[Pair] = []
                custom_id = row["custom_id"]
                if custom_id is not None:
                    request = requests.readline()
                    slot = prompt_file.slot(custom_id)
                    if slot is None:
                        raise OutputError(f"{prompt_file.entries}: is not of {prompt_file.file}")
                    each = None
                    if at[slot] != NO_LINE:
                        each = self._reread_answer(
                            opened[file_numbers[slot]], file_numbers[slot], abs(int(at[slot])) - 1
                        )
                    if each and each.failure is None:
                        pairs = self._parse_pairs(each, left_out_files)
                    else:
                        reason = REASON_FAILED if each else REASON_MISSING
                        self.counts[reason] += 1
                        problem = each.failure if each else None
                        left_out_files.write(
                            FAILED, json_line({"custom_id": custom_id, "reason": reason, "problem": problem})
                        )
                        left_out_files.write(RERUN, request)
                yield complete_entry(row, pairs)

    def _index_answers(self, files: list[Path]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """For each prompt where the line of its answer begins, and in which file.

        The byte, counted from 1; negative if it says that the request failed; NO_LINE where there is no line.
        """
        prompt_file = self.prompt_file
        assert prompt_file is not None
        at = np.full(prompt_file.size, NO_LINE, np.int64)
        file_numbers = np.zeros(prompt_file.size, np.int32)

        def unknown(each: Answer) -> Problem | None:
            if each.custom_id is None:
                return Problem("", 0, self.fields.id, "is missing; --fields names another key, as in id=request")
            if prompt_file.slot(each.custom_id) is None:
                what = f"{each.custom_id!r} is of no prompt in {prompt_file.file}: these are answers to others"
                return Problem("", 0, self.fields.id, what)
            return None

        for number, file in enumerate(files):
            for each, start in self._read_answers(file, self.input_files[number].path, unknown):
                slot = prompt_file.slot(each.custom_id or "")
                assert slot is not None
                if at[slot] > 0:
                    self.counts["repeated"] += 1
                else:
                    at[slot], file_numbers[slot] = (start + 1) * (1 if each.failure is None else -1), number
        return at, file_numbers

    def _reread_answer(self, file: IO[bytes], number: int, start: int) -> Answer:
        """The answer on a line that was read before."""
        file.seek(start)
        text = file.readline(MAX_LINE_BYTES + 1)
        read = read_answer(file.name, Line(0, start, text if start else text.removeprefix(BOM)), self.fields)
        if isinstance(read, Problem):
            raise SourceError(f"{self.input_files[number].path}: changed while it was read; run again")
        return read

    def _answers(self, files: list[Path], check: Any) -> Iterator[Answer]:
        for number, file in enumerate(files):
            for each, _ in self._read_answers(file, self.input_files[number].path, check):
                yield each

    def _read_answers(self, file: Path, shown_path: Path, check: Any) -> Iterator[tuple[Answer, int]]:
        """The answers of a file and where their lines begin. Raises BadLines, with the first that are none."""
        problems: list[Problem] = []
        count = 0
        for each in LineReader(ByteRange(str(file), 0, None)):
            answer = each if isinstance(each, Problem) else read_answer(str(shown_path), each, self.fields)
            wrong = answer if isinstance(answer, Problem) else check(answer)
            if wrong:
                number = each.line if isinstance(each, Problem) else each.number
                count += 1
                problems += [wrong._replace(shard=str(shown_path), line=number)][: MAX_PROBLEMS - len(problems)]
            elif not count:
                assert isinstance(answer, Answer)
                assert isinstance(each, Line)
                yield answer, each.start
        if count:
            raise BadLines(problems, count)

    def _parse_pairs(self, each: Answer, left_out_files: _LeftOutFiles) -> list[Pair]:
        """The pairs of an answer; of all its texts, where it has several."""
        self.counts["answers"] += 1
        pairs: list[Pair] = []
        for text in each.texts:
            found, left_out = self.parser(text)
            pairs += found
            self._record_left_out(each, left_out, left_out_files)
        if len(each.texts) > 1:
            pairs = list(dict.fromkeys(pairs))
        self.counts["pairs"] += len(pairs)
        self.counts["with_pairs"] += bool(pairs)
        return pairs

    def _record_left_out(self, each: Answer, left_out: list[LeftOut], left_out_files: _LeftOutFiles) -> None:
        for piece, reason, text in left_out:
            self.left_out[reason] += 1
            short = text if len(text) <= MAX_EXCERPT_CHARS else text[:MAX_EXCERPT_CHARS] + "…"
            left_out_files.write(
                SKIPPED, json_line({"custom_id": each.custom_id, "piece": piece, "reason": reason, "text": short})
            )


class _ShardWriter:
    """Shards of a folder, each closed when it is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count, self._room = folder, 0, 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.close()

    def write(self, data: bytes) -> None:
        """Write a line."""
        if self._room <= 0:
            self._stack.close()
            self._file = self._stack.enter_context(open_fsynced(self._folder / f"{self._count:05}.jsonl"))
            self._count, self._room = self._count + 1, SHARD_BYTES
        self._file.write(data)
        self._room -= len(data)


class _LeftOutFiles:
    """Files of a folder, each made when there is a line for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _LeftOutFiles:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.close()

    def write(self, name: str, data: bytes) -> None:
        """Write a line to one of them."""
        if name not in self._files:
            self._files[name] = self._stack.enter_context(open_fsynced(self._folder / name))
        self._files[name].write(data)


def _decompressed(path: Path, copy: Path) -> Path:
    """A file that can be read at any place: itself, or what it decompresses to, as `copy`."""
    if path.suffix not in (".gz", ".zst"):
        return path
    try:
        with open_shard(str(path)) as packed, open_fsynced(copy) as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except OSError as exc:
        raise read_error(path, exc) from exc
    return copy
