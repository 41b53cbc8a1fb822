"""An example longer than a sequence -> several that fit. Nothing here knows files; it sees one entry's texts.

`split` makes examples greedily and in pair order, each with the whole context and as many pairs as fit; a pair that
does not fit even alone is lost. `truncate` does the same, and gives such a pair an example of its own, in which the
tail of the context is cut. Every output and every cut input is encoded anew: pieces of ids differ from ids of pieces.

An entry is worked on by a generator that yields texts and is sent their ids, so that `run_batched` can encode what many
entries ask for in one batch.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence

from cook.shapes.formatter import Formatter, Pair
from cook.shapes.protocol import EncodeRequests, SplitExample, SplitResult, T
from cook.tokenizer.engine import Ids, Offsets


def run_batched(steps: Sequence[EncodeRequests[T]], encode: Callable[[list[str]], tuple[Ids, Offsets]]) -> list[T]:
    """Run generators to their ends, encoding what all of them ask for in one call a round."""
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
    """Examples of at most `capacity` tokens, BOS and EOS not counted, each with the whole context (`input_ids`)."""
    if len(input_ids) > capacity:
        return SplitResult([], list(range(len(pairs))))
    pieces, unfit, _ = yield from _group_pairs(input_ids, pairs, formatter, capacity)
    return SplitResult([piece for _, piece in pieces], unfit)


def truncate(
    input_ids: Ids,
    context: str,
    pairs: Sequence[Pair],
    formatter: Formatter,
    capacity: int,
    token_ends: Callable[[str], Offsets],
) -> EncodeRequests[SplitResult]:
    """As `split`; a pair that does not fit with the whole context gets as much of its head as fits."""
    pieces, unfit, single_pair_ids = yield from _group_pairs(input_ids, pairs, formatter, capacity)
    lost = []
    cuts = None
    for index in unfit:
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
    """The pairs that fit with the whole context, grouped greedily and in order: each group's first pair, and its piece.

    Then the pairs that do not fit, and the ids of each pair's output if it stands alone.
    """
    room = capacity - len(input_ids)
    single_pair_ids = yield [formatter.output_text([pair]) for pair in pairs]
    fitting = [index for index, ids in enumerate(single_pair_ids) if len(ids) <= room]
    unfit = [index for index, ids in enumerate(single_pair_ids) if len(ids) > room]
    ends = list(
        itertools.accumulate(len(single_pair_ids[index]) + 1 for index in fitting)
    )  # + 1: a delimiter is about one token
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
    return pieces, unfit, single_pair_ids


def cut_points(context: str, formatter: Formatter, token_ends: Callable[[str], Offsets]) -> Offsets:
    """Where a context may be cut: the ends of its tokens, in characters, but for nothing and all of it."""
    cuts = token_ends(formatter.input_text(context)) - len(formatter.before_context)
    return cuts[(cuts > 0) & (cuts < len(context))]


def longest_fitting_prefix(
    context: str, cuts: Offsets, formatter: Formatter, room: int
) -> EncodeRequests[tuple[str, Ids] | None]:
    """The longest head of a context that ends at one of `cuts` and fits, and its input's ids; None if none does.

    A search between a cut that fits and one that does not, by how many tokens the last one was off: most texts have a
    token a cut, so that it ends after a few.
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
