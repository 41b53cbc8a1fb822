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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from cook._version import __version__
from cook.core import catalog
from cook.core.errors import InputError, OutputError, Problem, RecipeError, read_error, refuse_empty, shorten
from cook.core.files import fsync_folder, json_line, open_fsynced, output_row, sha256_of, write_bytes
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.core.results import OutputResult
from cook.read.lines import BOM, MAX_LINE_BYTES, Line, open_shard
from cook.read.source import changed_error
from cook.shapes.formatter import Pair
from cook.store import kinds, manifest, staging
from cook.store.kinds import SIDECAR_SUFFIX
from cook.store.outputs import read_cooked
from cook.store.replace import existing_result
from cook.synthesis.inputs import InputFiles, parse_lines
from cook.synthesis.pair_parser import LeftOut, PairParser
from cook.synthesis.prompt_files import ENTRIES
from cook.synthesis.requests import ANSWER_FIELDS, Answer, AnswerFields, read_answer
from cook.synthesis.rounds import Row, complete_entry, make_entry, read_round_rows

SHARD_BYTES = 256 << 20
MAX_EXCERPT_CHARS = 500  # letters kept of a piece that gave no pair
LEFT_OUT, SKIPPED, FAILED, RERUN = "left-out", "skipped.jsonl", "failed.jsonl", "rerun.jsonl"
REASON_FAILED, REASON_MISSING = "failed", "missing"
NO_LINE = 0  # of a prompt for which no line has been found
Check = Callable[[Line, Answer], Problem | None]


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
    """Parse a model's answers into the dataset `to`, COLLECTION/NAME, as `cook parse` does.

    `prompts` is the file that `cook.prompts` wrote; contexts and templates are taken from it. Without it each line of
    `answers` must hold its context. Where several lines answer one prompt, the first that did not fail counts.

    Raises RecipeError for settings, SourceError, BadLines for lines that are no answers, OutputError, OutputExists.
    """
    refuse_empty(answers=answers, to=to, prompts=prompts)
    begun = time.perf_counter()
    to = Path(to)
    if not catalog.is_dataset_name(to.name):
        raise RecipeError(f"to: {str(to)!r} cannot name a dataset; pass COLLECTION/NAME")
    fields = _answer_fields(fields)
    prompt_file = _PromptFile(Path(prompts)) if prompts is not None else None
    settings: dict[str, Any] = {"unique_questions": unique_questions, "fields": fields._asdict()}
    settings |= _templates(prompt_file, pair_template, delimiter)
    parser = PairParser(settings["pair_template"], settings["delimiter"], unique_questions)
    paths = map(Path, [answers] if isinstance(answers, (str, Path)) else answers)
    parsing = _AnswerParsing(paths, prompt_file, parser, fields, settings)
    manifest_fields, up_to_date = parsing.write(to, overwrite, progress or no_progress)
    return Parsed(to, manifest_fields, up_to_date, time.perf_counter() - begun)


def _answer_fields(fields: AnswerFields | dict[str, str]) -> AnswerFields:
    """The keys of an answer's line. Raises RecipeError for a name that is none of them."""
    if isinstance(fields, AnswerFields):
        return fields
    if unknown := [name for name in fields if name not in AnswerFields._fields]:
        raise RecipeError(f"fields: there is no {unknown[0]!r}; there are {', '.join(AnswerFields._fields)}")
    return AnswerFields(**fields)


def _templates(prompt_file: _PromptFile | None, pair_template: str | None, delimiter: str | None) -> dict[str, Any]:
    """The templates of the prompts; without prompts, those given or the defaults. Raises RecipeError."""
    names = ("pair_template", "delimiter")
    if not prompt_file:
        given = zip(names, (pair_template, delimiter), strict=True)
        return {name: getattr(Recipe, name) if value is None else value for name, value in given}
    if pair_template or delimiter is not None:
        raise RecipeError("pair_template and delimiter are those of the prompts; leave them out")
    return {name: prompt_file.manifest["prompts"][name] for name in names}


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
        paths: Iterable[Path],
        prompt_file: _PromptFile | None,
        parser: PairParser,
        fields: AnswerFields,
        settings: dict[str, Any],
    ) -> None:
        self.prompt_file, self.parser, self.fields = prompt_file, parser, fields
        self.inputs = InputFiles((path, path.name) for path in paths)
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
            "inputs": self.inputs.rows(),
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
            shards = self.inputs.shards
            files = [_decompressed(shard.path, staged / f"answers-{at}") for at, shard in enumerate(shards)]
            with _ShardWriter(out / "shard") as writer, _LeftOutFiles(out / LEFT_OUT) as left_out_files:
                rows = (
                    self._entries_of_prompts(files, left_out_files)
                    if self.prompt_file
                    else self._entries_with_context(files, left_out_files)
                )
                for row in rows:
                    self.counts["entries"] += 1
                    writer.write(json_line(row))
                    progress("parse", 1)
            self.inputs.require_unchanged()
            if not self.counts["entries"]:
                raise InputError(f"{shards[0].path}: no answer: nothing to write")
            if any((out / LEFT_OUT).iterdir()):
                fsync_folder(out / LEFT_OUT)
            else:
                (out / LEFT_OUT).rmdir()
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
        """The entries of lines that hold their own context."""
        for number in range(len(files)):
            for _, answer in self._read_answers(files, number, self._context_problem):
                assert answer.context is not None
                if answer.failure is None:
                    yield make_entry(answer.context, self._parse_pairs(answer, left_out_files))

    def _context_problem(self, line: Line, answer: Answer) -> Problem | None:
        if answer.context is None:
            what = f"{self.fields.context} is missing: without --prompts a line must have its context"
            return Problem("", line.number, "", what)
        return None

    def _entries_of_prompts(self, files: list[Path], left_out_files: _LeftOutFiles) -> Iterator[Row]:
        """The entries of the prompts, in their order, with the answers found for them."""
        prompt_file = self.prompt_file
        assert prompt_file is not None
        starts, file_numbers = self._index_answers(files)
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(file.open("rb")) for file in files]
            requests = stack.enter_context(prompt_file.file.open("rb"))
            for row in read_round_rows(prompt_file.entries):
                if "follows" not in row:
                    yield row
                    continue
                pairs: list[Pair] = []
                if row["custom_id"] is not None:
                    request = requests.readline()
                    slot = prompt_file.slot(row["custom_id"])
                    if slot is None:
                        raise OutputError(f"{prompt_file.entries}: is not of {prompt_file.file}")
                    start, number = abs(int(starts[slot])) - 1, file_numbers[slot]
                    answer = self._reread_answer(opened[number], number, start) if starts[slot] != NO_LINE else None
                    if answer and answer.failure is None:
                        pairs = self._parse_pairs(answer, left_out_files)
                    else:
                        self._record_unanswered(row["custom_id"], request, answer, left_out_files)
                yield complete_entry(row, pairs)

    def _record_unanswered(
        self, custom_id: str, request: bytes, answer: Answer | None, left_out_files: _LeftOutFiles
    ) -> None:
        """Count a prompt without an answer, and write its line to rerun.jsonl."""
        reason, problem = (REASON_FAILED, answer.failure) if answer else (REASON_MISSING, None)
        self.counts[reason] += 1
        left_out_files.write(FAILED, json_line({"custom_id": custom_id, "reason": reason, "problem": problem}))
        left_out_files.write(RERUN, request)

    def _index_answers(self, files: list[Path]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """For each prompt, the place of its answer: the byte where the line starts, and the number of the file.

        Bytes are counted from 1; they are negative if the request failed, and NO_LINE where there is no line.
        """
        prompt_file = self.prompt_file
        assert prompt_file is not None
        starts = np.full(prompt_file.size, NO_LINE, np.int64)
        file_numbers = np.zeros(prompt_file.size, np.int32)
        for number in range(len(files)):
            for line, answer in self._read_answers(files, number, self._id_problem):
                slot = prompt_file.slot(answer.custom_id or "")
                assert slot is not None
                if starts[slot] > 0:
                    self.counts["repeated"] += 1
                else:
                    sign = 1 if answer.failure is None else -1
                    starts[slot], file_numbers[slot] = (line.start + 1) * sign, number
        return starts, file_numbers

    def _id_problem(self, line: Line, answer: Answer) -> Problem | None:
        assert self.prompt_file is not None
        if answer.custom_id is None:
            what = "is missing; --fields names another key, as in id=request"
        elif self.prompt_file.slot(answer.custom_id) is None:
            what = f"{answer.custom_id!r} is of no prompt in {self.prompt_file.file}: these are answers to others"
        else:
            return None
        return Problem("", line.number, self.fields.id, what)

    def _reread_answer(self, file: IO[bytes], number: int, start: int) -> Answer:
        """The answer on a line that was read before. Raises SourceError if it is none now."""
        file.seek(start)
        text = file.readline(MAX_LINE_BYTES + 1)
        answer = read_answer(Line(0, start, text if start else text.removeprefix(BOM)), self.fields)
        if isinstance(answer, Problem):
            raise changed_error(self.inputs.shards[number].path)
        return answer

    def _read_answers(self, files: list[Path], number: int, find_problem: Check) -> Iterator[tuple[Line, Answer]]:
        """The lines of a file with their answers. Raises BadLines for lines that are none, or have a problem."""

        def read(line: Line) -> Answer | Problem:
            answer = read_answer(line, self.fields)
            return answer if isinstance(answer, Problem) else find_problem(line, answer) or answer

        return parse_lines(files[number], str(self.inputs.shards[number].path), read)

    def _parse_pairs(self, answer: Answer, left_out_files: _LeftOutFiles) -> list[Pair]:
        """The pairs of an answer; of all its texts, where it has several."""
        self.counts["answers"] += 1
        pairs: list[Pair] = []
        for text in answer.texts:
            found, left_out = self.parser(text)
            pairs += found
            self._record_left_out(answer, left_out, left_out_files)
        if len(answer.texts) > 1:
            pairs = list(dict.fromkeys(pairs))
        self.counts["pairs"] += len(pairs)
        self.counts["with_pairs"] += bool(pairs)
        return pairs

    def _record_left_out(self, answer: Answer, left_out: list[LeftOut], left_out_files: _LeftOutFiles) -> None:
        for piece, reason, text in left_out:
            self.left_out[reason] += 1
            short = shorten(text, MAX_EXCERPT_CHARS)
            left_out_files.write(
                SKIPPED, json_line({"custom_id": answer.custom_id, "piece": piece, "reason": reason, "text": short})
            )


class _OutputFiles:
    """New files of a folder, fsynced when the block ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _open(self, name: str) -> IO[bytes]:
        return self._stack.enter_context(open_fsynced(self._folder / name))


class _ShardWriter(_OutputFiles):
    """Shards of a folder, each closed when it is full."""

    _count = _room = 0

    def write(self, data: bytes) -> None:
        """Write a line."""
        if self._room <= 0:
            self._stack.close()
            self._file = self._open(f"{self._count:05}.jsonl")
            self._count, self._room = self._count + 1, SHARD_BYTES
        self._file.write(data)
        self._room -= len(data)


class _LeftOutFiles(_OutputFiles):
    """Files of a folder, each made when there is a line for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._files: dict[str, IO[bytes]] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write a line to the file of this name."""
        if name not in self._files:
            self._files[name] = self._open(name)
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
