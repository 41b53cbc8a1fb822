"""Split an example that is longer than a sequence into examples that fit. Only the texts of one entry are seen here.

`split` goes greedily in the order of pairs: each example has the whole context and as many pairs as fit. A pair that
does not fit alone is lost. `truncate` does the same, but gives such a pair its own example, in which the end of the
context is cut off. Each output and each cut input is encoded anew, because slices of ids are not the ids of slices.

Each entry is a generator that yields texts and receives their ids, so `run_batched` encodes the texts of many entries
in one call.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence

from cook.shapes.formatter import Formatter, Pair
from cook.shapes.protocol import EncodeRequests, SplitExample, SplitResult, T
from cook.tokenizer.engine import Ids, Offsets


def run_batched(steps: Sequence[EncodeRequests[T]], encode: Callable[[list[str]], tuple[Ids, Offsets]]) -> list[T]:
    """The results of generators. Each round encodes the texts that all of them yield in one call."""
    results: dict[int, T] = {}
    pending_texts: dict[int, list[str]] = {}

    def advance(index: int, answer: list[Ids] | None) -> None:
        try:
            pending_texts[index] = next(steps[index]) if answer is None else steps[index].send(answer)
        except StopIteration as done:
            results[index] = done.value
            pending_texts.pop(index, None)

    for index in range(len(steps)):
        advance(index, None)
    while pending_texts:
        ids, offsets = encode([text for texts in pending_texts.values() for text in texts])
        arrays = iter([ids[a:b] for a, b in itertools.pairwise(offsets.tolist())])
        for index, texts in list(pending_texts.items()):
            advance(index, list(itertools.islice(arrays, len(texts))))
    return [results[index] for index in range(len(steps))]


def split(input_ids: Ids, pairs: Sequence[Pair], formatter: Formatter, capacity: int) -> EncodeRequests[SplitResult]:
    """Split by pairs. `capacity`: the most tokens of an example without BOS and EOS. `input_ids`: the whole context."""
    if len(input_ids) > capacity:
        return SplitResult([], list(range(len(pairs))))
    pieces, too_large, _ = yield from _group_pairs(input_ids, pairs, formatter, capacity)
    return SplitResult([piece for _, piece in pieces], too_large)


def truncate(
    input_ids: Ids,
    context: str,
    pairs: Sequence[Pair],
    formatter: Formatter,
    capacity: int,
    token_ends: Callable[[str], Offsets],
) -> EncodeRequests[SplitResult]:
    """Split by pairs, as `split`; a pair that does not fit with the whole context gets the longest head that fits."""
    pieces, too_large, single_pair_ids = yield from _group_pairs(input_ids, pairs, formatter, capacity)
    lost = []
    cuts = None
    for index in too_large:
        if cuts is None:
            cuts = cut_points(context, formatter, token_ends)
        prefix = yield from longest_fitting_prefix(context, cuts, formatter, capacity - len(single_pair_ids[index]))
        if prefix is None:
            lost.append(index)
        else:
            pieces.append((index, SplitExample((prefix[1], single_pair_ids[index]), 1, True)))
    pieces.sort(key=lambda piece: piece[0])
    return SplitResult([piece for _, piece in pieces], lost)


def _group_pairs(
    input_ids: Ids, pairs: Sequence[Pair], formatter: Formatter, capacity: int
) -> EncodeRequests[tuple[list[tuple[int, SplitExample]], list[int], list[Ids]]]:
    """Group the pairs that fit with the whole context, greedily and in order.

    Returns the first pair of each group with its example, the pairs that do not fit, and the ids of each pair alone.
    """
    room = capacity - len(input_ids)
    single_pair_ids = yield [formatter.output_text([pair]) for pair in pairs]
    fitting = [index for index, ids in enumerate(single_pair_ids) if len(ids) <= room]
    too_large = [index for index, ids in enumerate(single_pair_ids) if len(ids) > room]
    # + 1: a delimiter is about one token.
    ends = list(itertools.accumulate(len(single_pair_ids[index]) + 1 for index in fitting))
    pieces = []
    first = 0

    def text(end: int) -> list[str]:
        return [formatter.output_text([pairs[index] for index in fitting[first:end]])]

    while first < len(fitting):
        before = ends[first - 1] if first else 0
        end = max(first + 1, bisect.bisect_right(ends, before + room + 1))  # a guess, then the exact count from there
        (ids,) = yield text(end)
        while len(ids) > room:
            end -= 1
            (ids,) = yield text(end)
        while end < len(fitting):
            (more,) = yield text(end + 1)
            if len(more) > room:
                break
            end, ids = end + 1, more
        pieces.append((fitting[first], SplitExample((input_ids, ids), end - first, False)))
        first = end
    return pieces, too_large, single_pair_ids


def cut_points(context: str, formatter: Formatter, token_ends: Callable[[str], Offsets]) -> Offsets:
    """Where a context may be cut: the ends of its tokens, in characters, without 0 and its length."""
    cuts = token_ends(formatter.input_text(context)) - len(formatter.before_context)
    return cuts[(cuts > 0) & (cuts < len(context))]


def longest_fitting_prefix(
    context: str, cuts: Offsets, formatter: Formatter, room: int
) -> EncodeRequests[tuple[str, Ids] | None]:
    """The longest head of a context that ends at one of `cuts` and whose input has at most `room` tokens; None if none.

    Returns the head and the ids of its input. The search moves by the number of tokens that the last cut was off: most
    texts have one token a cut, so it takes a few steps.
    """
    fits, fails = -1, len(cuts)
    best: tuple[str, Ids] | None = None
    guess = min(room, fails - 1)
    while fails - fits > 1:
        guess = min(max(guess, fits + 1), fails - 1)
        head = context[: cuts[guess]]
        (ids,) = yield [formatter.input_text(head)]
        over = len(ids) - room
        if over > 0:
            fails = guess
            guess -= over
        else:
            fits, best = guess, (head, ids)
            guess += max(1, -over)
    return best
