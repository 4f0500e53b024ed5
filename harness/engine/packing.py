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


def pack(sequences: Sequence[TokenSequence], *, budget: int, share: bool = True) -> Iterator[Row]:
    """Rows of at most `budget` tokens that together hold every sequence exactly once.

    A sequence longer than the budget gets a row of its own. Sequences are sorted by their tokens, so those
    with the longest common prefix are neighbours. share=False gives each sequence a row of its own, for
    architectures that cannot take a row's attention mask.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index].inputs)
    builder = _RowBuilder()
    for index in order:
        sequence = sequences[index]
        if builder.row.members and (not share or builder.length_with(sequence) > budget):
            yield builder.finish()
            builder = _RowBuilder()
        builder.add(index, sequence)
    if builder.row.members:
        yield builder.finish()


class _RowBuilder:
    """Grows a row by one sequence at a time; `path` holds the row indices of the last one's tokens."""

    def __init__(self) -> None:
        self.row = Row()
        self.path: list[int] = []
        self.inputs: tuple[int, ...] = ()
        self.edges: dict[tuple[int, int], int] = {}

    def shared(self, inputs: tuple[int, ...]) -> int:
        """How many leading tokens of `inputs` the last sequence has already put in the row."""
        count = 0
        for ours, theirs in zip(self.inputs, inputs, strict=False):
            if ours != theirs:
                break
            count += 1
        return count

    def length_with(self, sequence: TokenSequence) -> int:
        inputs = sequence.inputs
        return len(self.row) + len(inputs) - self.shared(inputs)

    def add(self, index: int, sequence: TokenSequence) -> None:
        row, inputs = self.row, sequence.inputs
        kept = self.shared(inputs)
        self._close(kept)
        for depth in range(kept, len(inputs)):
            self.path.append(len(row.tokens))
            row.tokens.append(inputs[depth])
            row.positions.append(depth)
            row.ends.append(-1)
        self.inputs = inputs
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
