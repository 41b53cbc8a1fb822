"""What is cooked against the shards it was made of, entry by entry: that the output is the input, and nothing else.

The shards are read once, in order; the ids of their examples lie in a spool, mapped. Every context and every output is
decoded, by a table of each token's bytes, and must be the recipe's text of the entry, byte for byte; and its ids must
be those that the engine gives for that text. Where a text does not decode to itself (NFC, SentencePiece's "▁"), or ids
differ, the reference encodes it, and that decides. Over-long entries are re-made, and each pair looked for in what was
made of them.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from cook import accounts, overlong, splits
from cook import tokenize as stage
from cook.context_qa import Entry, markers, parse
from cook.decoding import Decoder
from cook.engines import Engine
from cook.entries import Line, LineReader, Part
from cook.errors import Problem
from cook.format import Formatter
from cook.marks import Marks
from cook.protocol import EncodeRequests, SplitResult
from cook.recipe import Recipe
from cook.sources import Shard
from cook.spool import BAD_LINE, NO_PAIRS, OVERLONG, REASONS, REPEAT
from cook.tokenizer import Tokenizer, load_engine, reference_engine, special_strings, token_ends

if TYPE_CHECKING:
    from cook.auditing import Check

BATCH = 1 << 20  # bytes of lines compared together
SHOWN = 60  # letters of a text that a finding shows
Left = tuple[int, int, int, int]  # pair, reason, pairs, tokens: a row of skipped.jsonl without its place


def prove(check: Check, shards: list[Shard], tokenizer: Tokenizer | None, spool: Path) -> None:
    """Compare what is cooked with its shards; findings go to the check. Raises SourceError, TokenizerError."""
    assert check.recipe is not None
    assert tokenizer is not None
    proof = _Proof(check, check.recipe, tokenizer, spool)
    for index, shard in enumerate(shards):
        proof.shard(index, shard)
    proof.end()


class _Proof:
    def __init__(self, check: Check, recipe: Recipe, tokenizer: Tokenizer, spool: Path) -> None:
        self.check, self.recipe, self.tokenizer = check, recipe, tokenizer
        self.formatter = Formatter(recipe)
        self.engine = load_engine(tokenizer)
        self.decoder = Decoder(tokenizer, self.engine)
        self.marks = Marks(markers(recipe), special_strings(tokenizer))
        self.ids = np.memmap(spool, np.int32, "r") if len(check.examples) else np.empty(0, np.int32)
        places = check.examples["shard"].astype(np.int64) << 32 | check.examples["line"]
        self.order = np.argsort(places, kind="stable")
        self.places = places[self.order]
        self.piece = np.zeros(len(places), np.int32)
        self.seen = np.zeros(len(places), bool)
        left = check.skipped
        self.left_places = left["shard"].astype(np.int64) << 32 | left["line"]
        self.left_seen = np.zeros(len(left), bool)
        self.specials = int(tokenizer.bos_id is not None) + 1
        self.counts = Counter[str]()
        self.longest = 0
        self.hash_blocks = [np.empty((0, 2), np.uint64)]
        self.entry_blocks = [np.empty((0, 2), np.int64)]  # whether it is left out as a repeat; its place

    def shard(self, index: int, shard: Shard) -> None:
        """Read a shard, and compare its entries."""
        part = Part(str(shard.path), 0, None)
        batch: list[Entry] = []
        size = 0
        for line in LineReader(part):
            if self.counts["entries"] == self.recipe.limit:
                break
            self.counts["entries"] += 1
            entry = [line] if isinstance(line, Problem) else parse(part.path, line, self.recipe.fields)
            if isinstance(entry, list):
                self._left(index, entry[0].line, {(-1, BAD_LINE, 0, 0)}, self._examples(index, entry[0].line))
                continue
            assert isinstance(line, Line)
            self.marks.look(entry.texts)
            self.counts["pairs"] += len(entry.pairs) + len(entry.left_out)
            if not entry.pairs:
                left = {*self._blank(entry), (-1, NO_PAIRS, 0, 0)}
                self._left(index, entry.line, left, self._examples(index, entry.line))
                continue
            batch.append(entry)
            size += len(line.text)
            if size >= BATCH:
                self._batch(index, batch)
                batch, size = [], 0
        if batch:
            self._batch(index, batch)

    def _examples(self, shard: int, line: int) -> npt.NDArray[np.int64]:
        """The examples of an entry."""
        place = shard << 32 | line
        return self.order[np.searchsorted(self.places, place) : np.searchsorted(self.places, place, side="right")]

    def _rows_left(self, shard: int, line: int) -> slice:
        place = shard << 32 | line
        return slice(
            int(np.searchsorted(self.left_places, place)), int(np.searchsorted(self.left_places, place, side="right"))
        )

    @staticmethod
    def _blank(entry: Entry) -> Iterator[Left]:
        for pair, reason in entry.left_out:
            yield pair, reason, 1, 0

    def _left(self, shard: int, line: int, expected: set[Left], examples: npt.NDArray[np.int64]) -> None:
        """Hold what skipped.jsonl says of an entry against what is so; and that it has no `examples`."""
        rows = self._rows_left(shard, line)
        self.left_seen[rows] = True
        there = [
            (int(r["unit"]), int(r["reason"]), int(r["units"]), int(r["tokens"])) for r in self.check.skipped[rows]
        ]
        place = self.check.place(shard, line)
        if len(there) != len(expected) or set(there) != expected:
            told = [sorted(self._told(*row) for row in each) for each in (there, expected)]
            says, so = ("; ".join(each) or "nothing" for each in told)
            self.check.findings.note(
                accounts.SKIPPED_NAME, rows.start + 1, f"{place}: leaves out {says}; expected {so}"
            )
        self.seen[examples] = True
        for example in examples.tolist():
            self.check.at(example, "stands here; expected to be left out")

    @staticmethod
    def _told(pair: int, reason: int, pairs: int, tokens: int) -> str:
        what = "the entry" if pair < 0 else f"pair {pair}"
        more = f", {pairs} pairs" if pair < 0 and pairs else ""
        return f"{what} ({REASONS[reason]}{more}{f', {tokens} tokens' if tokens else ''})"

    def _batch(self, shard: int, batch: list[Entry]) -> None:
        """Compare entries that have pairs: those that are one example each together, the others one by one."""
        texts = []
        for entry in batch:
            texts += [self.formatter.input_text(entry.context), self.formatter.output_text(entry.pairs)]
        ids, offsets = self.engine.encode(texts)
        sizes = np.diff(offsets)
        totals = sizes[0::2] + sizes[1::2] + self.specials
        places = np.array([shard << 32 | entry.line for entry in batch])
        begin, end = (np.searchsorted(self.places, places, side=side) for side in ("left", "right"))
        left = np.searchsorted(self.left_places, places, side="right") > np.searchsorted(self.left_places, places)
        blank = np.array([bool(entry.left_out) for entry in batch])
        plain = (end - begin == 1) & (totals <= self.recipe.max_length) & ~left & ~blank
        self.longest = max(self.longest, int(totals[sizes[0::2] + self.specials > 1].max(initial=0)))
        chosen = np.flatnonzero(plain)
        if len(chosen):
            examples = self.order[begin[chosen]]
            self.seen[examples] = True
            self._compare(examples, [texts[2 * i + side] for i in chosen for side in (0, 1)], ids, offsets, chosen)
        repeated = np.zeros(len(batch), np.int64)
        made = np.ones(len(batch), np.int64)
        odd = {i: ids[offsets[2 * i] : offsets[2 * i + 1]] for i in np.flatnonzero(~plain).tolist()}
        remade: dict[int, SplitResult] = {}
        if self.recipe.overlong in ("split", "truncate"):
            long = [i for i in odd if totals[i] > self.recipe.max_length]
            again = self._remade([batch[i] for i in long], [odd[i] for i in long], self.engine)
            remade = dict(zip(long, again, strict=True))
        for i, input_ids in odd.items():
            own = texts[2 * i : 2 * i + 2], int(totals[i]), len(input_ids), remade.get(i)
            repeated[i], made[i] = self._odd(shard, batch[i], *own)
        if self.recipe.hashes:
            hashes = [
                (stage.hash64(e.context.encode()), stage.hash64(orjson.dumps((e.context, e.pairs)))) for e in batch
            ]
            self.hash_blocks.append(np.array(hashes, np.uint64)[made > 0])
            self.entry_blocks.append(np.column_stack([repeated, places])[made > 0])

    def _odd(
        self, shard: int, entry: Entry, texts: list[str], total: int, inputs: int, made: SplitResult | None
    ) -> tuple[bool, bool]:
        """Compare an entry that is not simply one example; whether it is left out as a repeat, and could have any."""
        examples = self._examples(shard, entry.line)
        expected = set(self._blank(entry))
        rows = self.check.skipped[self._rows_left(shard, entry.line)]
        repeat = self.recipe.dedup and bool((rows["reason"] == REPEAT).any())
        if not inputs and self.tokenizer.bos_id is None:
            self._left(shard, entry.line, expected | {(-1, BAD_LINE, 0, 0)}, examples)
            return False, False
        if total > self.recipe.max_length:
            return self._overlong(shard, entry, expected, total, made, repeat)
        if repeat:
            self._left(shard, entry.line, expected | {(-1, REPEAT, len(entry.pairs), 0)}, examples)
            return True, True
        self._left(shard, entry.line, expected, examples[:0])
        self.seen[examples] = True
        if not len(examples):
            self.check.wrong(f"{self.check.place(shard, entry.line)}: stands nowhere; expected one example")
        for more in examples[1:].tolist():
            self.check.at(more, "stands more than once; expected one example")
        if len(examples):
            self._compare(examples[:1], texts)
        return False, True

    def _overlong(
        self, shard: int, entry: Entry, expected: set[Left], total: int, made: SplitResult | None, repeat: bool
    ) -> tuple[bool, bool]:
        """As `_odd`, of an entry that is longer than a sequence."""
        examples = self._examples(shard, entry.line)
        if made is None:  # drop, or error
            row = (-1, OVERLONG, len(entry.pairs), total)
            self._left(shard, entry.line, expected | ({row} if self.recipe.overlong == "drop" else set()), examples)
            if self.recipe.overlong == "error":
                self.check.wrong(f"{self.check.place(shard, entry.line)}: has {total:,} tokens, and overlong is error")
            return False, False
        expected |= {(entry.place(pair), OVERLONG, 1, total) for pair in made.lost}
        self.counts["split"] += bool(made.pieces)
        self.counts["truncated"] += sum(piece.cut for piece in made.pieces)
        if not made.pieces:
            self._left(shard, entry.line, expected | {(-1, OVERLONG, 0, total)}, examples)
            return False, False
        if repeat:
            kept = sum(piece.units for piece in made.pieces)
            self._left(shard, entry.line, expected | {(-1, REPEAT, kept, 0)}, examples)
            return True, True
        self._left(shard, entry.line, expected, examples[:0])
        self.seen[examples] = True
        self._pieces(shard, entry, made, examples)
        return False, True

    def _remade(self, entries: list[Entry], inputs: list[Any], engine: Engine) -> list[SplitResult]:
        """What over-long entries, with the ids of their inputs, are made into."""
        capacity = self.recipe.max_length - self.specials
        steps: list[EncodeRequests[SplitResult]] = []
        ends = token_ends(self.tokenizer)
        for entry, ids in zip(entries, inputs, strict=True):
            if self.recipe.overlong == "split":
                steps.append(overlong.split(ids, entry.pairs, self.formatter, capacity))
            else:
                steps.append(overlong.truncate(ids, entry.context, entry.pairs, self.formatter, capacity, ends))
        return overlong.run(steps, engine.encode)

    def _text_ids(self, example: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The ids of an example's input and output, without BOS and EOS."""
        row = self.check.examples[example]
        at, has_bos = int(row["at"]), self.specials - 1
        border = at + int(row["input"])
        return self.ids[at + has_bos : border], self.ids[border : border + int(row["output"]) - 1]

    def _pieces(self, shard: int, entry: Entry, made: SplitResult, examples: npt.NDArray[np.int64]) -> None:
        """Compare what an over-long entry was made into."""
        numbers: dict[tuple[bytes, bytes], list[int]] = {}
        for number, piece in enumerate(made.pieces):
            numbers.setdefault(_key(*piece.texts), []).append(number)
        found: dict[int, int] = {}
        for example in examples.tolist():
            waiting = numbers.get(_key(*self._text_ids(example)))
            if not waiting:
                trains = _shown(self._bytes(self._text_ids(example)[1]))
                expected = f"expected one of the {len(made.pieces)} examples made of its entry"
                self.check.at(example, f"trains {trains}; {expected}")
                continue
            self.piece[example] = waiting[0]
            found[waiting.pop(0)] = example
        place = self.check.place(shard, entry.line)
        if len(found) < len(made.pieces):
            gone = len(made.pieces) - len(found)
            self.check.wrong(f"{place}: {gone} of the {len(made.pieces)} examples made of it stand nowhere")
            return
        inputs = [self._bytes(self._text_ids(found[number])[0]) for number in range(len(made.pieces))]
        outputs = [self._bytes(self._text_ids(found[number])[1]) for number in range(len(made.pieces))]
        if self._pairs_stand(entry, made, inputs, outputs):
            return
        reference = reference_engine(self.tokenizer)
        whole = reference.encode([self.formatter.input_text(entry.context)])[0]
        (again,) = self._remade([entry], [whole], reference)
        if [_key(*piece.texts) for piece in again.pieces] != [_key(*piece.texts) for piece in made.pieces]:
            self.check.at(found[0], "its examples do not read as the pairs of its entry with their context")

    def _pairs_stand(self, entry: Entry, made: SplitResult, inputs: list[bytes], outputs: list[bytes]) -> bool:
        """Whether the decoded pieces are the entry: whole contexts or heads of it, and every pair that is kept once."""
        lost = set(made.lost)
        texts = [self.decoder.text(self.formatter.output_text([pair])) for pair in entry.pairs]
        cut = Counter(text for text, piece in zip(outputs, made.pieces, strict=True) if piece.cut)
        kept = [index for index in range(len(texts)) if index not in lost]
        if Counter(texts[index] for index in kept if texts[index] in cut) != cut:
            return False
        whole = self.decoder.text(self.formatter.input_text(entry.context))
        heads = all(
            self._is_head(entry.context, text) if piece.cut else text == whole
            for text, piece in zip(inputs, made.pieces, strict=True)
        )
        rest = iter([entry.pairs[index] for index in kept if texts[index] not in cut])
        for text, piece in zip(outputs, made.pieces, strict=True):
            if not piece.cut:
                pairs = list(itertools.islice(rest, piece.units))
                if text != self.decoder.text(self.formatter.output_text(pairs)):
                    return False
        return heads and next(rest, None) is None

    def _is_head(self, context: str, text: bytes) -> bool:
        """Whether an input's text is that of a head of the context: not empty, and not all of it."""
        frame = len(self.decoder.text(self.formatter.input_text("")))
        times = self.recipe.context_template.count("{context}")
        size, rest = divmod(len(text) - frame, times)
        head = context.encode()[: max(size, 0)]
        try:
            same = self.decoder.text(self.formatter.input_text(head.decode())) == text
        except UnicodeDecodeError:
            return False
        return same and rest == 0 and 0 < size < len(context.encode())

    def _bytes(self, ids: npt.NDArray[np.int32]) -> bytes:
        return self.decoder.decode(ids)[0].tobytes()

    def _compare(
        self,
        examples: npt.NDArray[np.int64],
        texts: Sequence[str],
        ids: Any = None,
        offsets: Any = None,
        chosen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Compare examples with the texts of their inputs and outputs; `chosen` of which were encoded already."""
        if chosen is None:
            ids, offsets = self.engine.encode(texts)
            chosen = np.arange(len(examples))
        rows = self.check.examples[examples]
        has_bos = self.specials - 1
        # Two texts an example: where each lies in the spool.
        begins = np.column_stack([rows["at"] + has_bos, rows["at"] + rows["input"]]).ravel()
        sizes = np.column_stack([rows["input"] - has_bos, rows["output"] - 1]).ravel().astype(np.int64)
        there = np.asarray(self.ids[_ranges(begins, sizes)])
        which = np.column_stack([2 * chosen, 2 * chosen + 1]).ravel()
        wanted_sizes = (offsets[1:] - offsets[:-1])[which]
        wanted = ids[_ranges(offsets[which], wanted_sizes)].view(np.int32)
        wrong = _differ(there, sizes, wanted, wanted_sizes)
        decoded, lengths = self.decoder.decode(there, sizes)
        wrong |= ~self.decoder.reads(decoded, lengths, texts)
        suspects = np.flatnonzero(wrong)
        if not len(suspects):
            return
        ends = np.cumsum(sizes)
        byte_ends = np.cumsum(lengths)
        right = reference_engine(self.tokenizer).encode([texts[at] for at in suspects.tolist()])
        for number, at in enumerate(suspects.tolist()):
            mine = there[ends[at] - sizes[at] : ends[at]]
            if np.array_equal(mine, right[0][right[1][number] : right[1][number + 1]]):
                continue
            reads = decoded[byte_ends[at] - lengths[at] : byte_ends[at]].tobytes()
            side = "what it trains" if at % 2 else "its input"
            expected = self.decoder.text(texts[at])
            what = (
                f"{side} has other ids than the tokenizer gives for the text {_shown(reads)}"
                if reads == expected
                else f"{side} reads {_shown(reads, expected)}; expected {_shown(expected, reads)}"
            )
            self.check.at(int(examples[at // 2]), what)

    def end(self) -> None:
        """What only the whole tells: that nothing stands in the output beside the entries, splits, repeats, counts."""
        check = self.check
        for example in np.flatnonzero(~self.seen).tolist():
            check.at(example, "is no entry of the shards; expected those alone")
        for row in np.flatnonzero(~self.left_seen).tolist():
            place = check.place(int(check.skipped["shard"][row]), int(check.skipped["line"][row]))
            check.findings.note(accounts.SKIPPED_NAME, row + 1, f"{place}: is no entry of the shards")
        counts = check.fields["counts"]
        for key in ("entries", "pairs", "split", "truncated"):
            check.equal(f"counts.{key}", counts[key], self.counts[key])
        check.equal("counts.special_strings", counts["special_strings"], self.marks.special)
        found = {marker: count for marker, count in self.marks.by_marker.items() if count}
        check.equal("counts.markers", counts["markers"], found)
        check.equal("figures.longest_entry", check.fields["figures"]["longest_entry"], self.longest)
        if self.recipe.hashes:
            self._splits()
        if not len(check.findings):
            check.plan(self.recipe, self.piece)

    def _splits(self) -> None:
        """Which entries repeat others, and which are for validation, by the hashes of what the shards hold."""
        check, recipe = self.check, self.recipe
        hashes, entries = np.concatenate(self.hash_blocks), np.concatenate(self.entry_blocks)
        context, content = hashes[:, 0], hashes[:, 1]
        number = np.arange(len(entries))
        repeats = splits.repeats(context, content, number) if recipe.dedup else np.zeros(len(entries), bool)
        for at in np.flatnonzero(repeats != (entries[:, 0] > 0)).tolist():
            place = check.place(int(entries[at, 1]) >> 32, int(entries[at, 1]) & (2**32 - 1))
            so = "repeats another" if repeats[at] else "repeats no other"
            check.findings.note(accounts.SKIPPED_NAME, None, f"{place}: {so}; expected that it is left out if it does")
        kept = ~repeats
        expected = np.zeros(len(entries), bool)
        if recipe.validation is not None:
            expected[kept] = splits.validation(recipe.validation, context[kept], number[kept])
        is_validation = np.array([split == "validation" for split in check.split_of])
        at = np.searchsorted(entries[:, 1], self.places)  # both in the order of the shards
        wanted = np.zeros(len(self.places), bool)
        inside = at < len(entries)
        wanted[inside] = expected[at[inside]]
        wrong = np.zeros(len(self.places), bool)
        wrong[self.order] = wanted != is_validation[check.examples["file"][self.order]]
        for example in np.flatnonzero(wrong).tolist():
            other = "train" if is_validation[check.examples["file"][example]] else "validation"
            check.at(example, f"expected in the split {other}, by the hash of its context")


def _key(input_ids: npt.NDArray[Any], output_ids: npt.NDArray[Any]) -> tuple[bytes, bytes]:
    return input_ids.astype(np.int32).tobytes(), output_ids.astype(np.int32).tobytes()


def _ranges(begins: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The numbers of all ranges, one after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(begins.astype(np.int64) - (ends - sizes), sizes) + np.arange(total)


def _differ(
    one: npt.NDArray[Any], sizes: npt.NDArray[Any], other: npt.NDArray[Any], other_sizes: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Which of two lists of arrays, each flat with its sizes, differ."""
    differ: npt.NDArray[np.bool_] = sizes != other_sizes
    if not differ.any():
        places = np.flatnonzero(one != other)
    else:
        same = ~differ
        ends, other_ends = np.cumsum(sizes), np.cumsum(other_sizes)
        kept = sizes[same]
        mine = one[_ranges((ends - sizes)[same], kept)]
        theirs = other[_ranges((other_ends - other_sizes)[same], kept)]
        at = np.flatnonzero(mine != theirs)
        differ[np.flatnonzero(same)[np.unique(np.searchsorted(np.cumsum(kept), at, side="right"))]] = True
        return differ
    differ[np.unique(np.searchsorted(np.cumsum(sizes), places, side="right"))] = True
    return differ


def _shown(text: bytes, other: bytes | None = None) -> str:
    """A text for a message: from a little before where it differs from another."""
    begin = 0
    if other is not None:
        size = min(len(text), len(other))
        unlike = np.flatnonzero(np.frombuffer(text[:size], np.uint8) != np.frombuffer(other[:size], np.uint8))
        begin = max(0, (int(unlike[0]) if len(unlike) else size) - SHOWN // 3)
    shown = text[begin : begin + SHOWN].decode(errors="replace")
    return ("…" if begin else "") + json.dumps(shown, ensure_ascii=False) + ("…" if begin + SHOWN < len(text) else "")
