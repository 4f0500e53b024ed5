"""Rows in which every shared prefix is computed once.

Fine-tuning data repeats itself: examples share a system prompt, multiple-choice items share a question,
labels share a prompt. A row holds the prefix forest of several sequences, each node one token, in depth-first
order. A token's position is its depth, and it attends to its ancestors and itself, so it sees exactly the
tokens it would see if its sequence stood alone. Nothing here needs a model or a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Row", "TokenSequence", "pack"]


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prefix that is only read, and a continuation of which every token is predicted.

    prefix, continuation: token ids; neither may be empty (the first token of a text has no predictor: give
    the model's start token as the prefix).
    """

    prefix: tuple[int, ...]
    continuation: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prefix or not self.continuation:
            raise ValueError("a sequence needs a prefix and a continuation of at least one token each")

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: all but the last token, after which nothing is predicted."""
        return self.prefix + self.continuation[:-1]


@dataclass(slots=True)
class Row:
    """One prefix forest, ready to become tensors.

    tokens, positions, ends: (L,) the token ids in depth-first order, their depth, and one past the index of
        their last descendant. Token i attends to j exactly if j <= i < ends[j].
    predictors, targets: (P,) index of the token whose hidden state predicts, and the token id it must predict;
        a pair that several sequences share stands here once.
    members: (index of the sequence, its continuation as indices into predictors) each.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    predictors: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    members: list[tuple[int, list[int]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)


def pack(sequences: Sequence[TokenSequence], *, budget: int, share: bool = True) -> Iterator[list[Row]]:
    """Batches of rows, of at most `budget` tokens each, that together hold every sequence exactly once.

    share=True gives batches of one row. Sequences are sorted by their tokens, so those with the longest common
    prefix are neighbours, and each goes where it adds the fewest tokens, of such rows into the one it fills best.
    share=False is for architectures that cannot take a row's attention mask: each sequence is a row of its own,
    and rows of similar length form a batch, whose tokens are its rows times its longest row.
    A sequence longer than the budget gets a row or batch of its own.
    """
    return _shared(sequences, budget) if share else _unshared(sequences, budget)


# Rows that still take sequences. More of them fill rows better and find fewer sequences with a common prefix.
_OPEN_ROWS = 8


def _shared(sequences: Sequence[TokenSequence], budget: int) -> Iterator[list[Row]]:
    builders: list[_RowBuilder] = []
    previous: tuple[int, ...] = ()
    for index in sorted(range(len(sequences)), key=lambda index: sequences[index].inputs):
        inputs = sequences[index].inputs
        common = _common(previous, inputs)
        for builder in builders:  # in sorted order, two sequences share what all between them share
            builder.common = min(builder.common, common)
        fitting = [b for b in builders if len(b.row) + len(inputs) - b.common <= budget]
        if fitting:
            builder = max(fitting, key=lambda b: (b.common, len(b.row)))
        else:
            if len(builders) == _OPEN_ROWS:
                fullest = max(builders, key=lambda b: len(b.row))
                builders.remove(fullest)
                yield [fullest.finish()]
            builder = _RowBuilder()
            builders.append(builder)
        builder.add(index, sequences[index])
        previous = inputs
    for builder in builders:
        yield [builder.finish()]


def _unshared(sequences: Sequence[TokenSequence], budget: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for index in sorted(range(len(sequences)), key=lambda index: -len(sequences[index].inputs)):
        builder = _RowBuilder()
        builder.add(index, sequences[index])
        if batch and len(batch[0]) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(builder.finish())
    if batch:
        yield batch


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The length of the longest common prefix."""
    limit = min(len(one), len(other))
    return next((i for i in range(limit) if one[i] != other[i]), limit)


class _RowBuilder:
    """Grows a row by one sequence at a time; `path` holds the row indices of the last one's tokens.

    common: how many leading tokens of the sequence to be added the last one has already put in the row.
    """

    def __init__(self) -> None:
        self.row = Row()
        self.path: list[int] = []
        self.common = 0
        self.edges: dict[tuple[int, int], int] = {}

    def add(self, index: int, sequence: TokenSequence) -> None:
        row, inputs = self.row, sequence.inputs
        self._close(self.common)
        for depth in range(self.common, len(inputs)):
            self.path.append(len(row.tokens))
            row.tokens.append(inputs[depth])
            row.positions.append(depth)
            row.ends.append(-1)
        self.common = len(inputs)
        first = len(sequence.prefix) - 1
        row.members.append((index, [self._edge(self.path[first + i], t) for i, t in enumerate(sequence.continuation)]))

    def _edge(self, predictor: int, target: int) -> int:
        edge = self.edges.get((predictor, target))
        if edge is None:
            edge = self.edges[predictor, target] = len(self.row.predictors)
            self.row.predictors.append(predictor)
            self.row.targets.append(target)
        return edge

    def _close(self, kept: int) -> None:
        """The subtrees below depth `kept` are complete."""
        for node in self.path[kept:]:
            self.row.ends[node] = len(self.row.tokens)
        del self.path[kept:]

    def finish(self) -> Row:
        self._close(0)
        return self.row
