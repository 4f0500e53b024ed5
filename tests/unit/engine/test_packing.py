"""Every token of a packed row sees exactly the tokens that it sees alone, in order, at the same positions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.packing import Row, TokenSequence, pack

# Few distinct tokens, so that shared prefixes of every depth, prefixes of each other and repeats all occur.
tokens = st.integers(0, 2)
sequences = st.lists(
    st.builds(
        TokenSequence,
        st.lists(tokens, min_size=1, max_size=6).map(tuple),
        st.lists(tokens, min_size=1, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=12,
)


def seen_by(row: Row, index: int) -> list[int]:
    """Row indices that token `index` attends to, by the documented rule."""
    return [j for j in range(len(row)) if j <= index < row.ends[j]]


@given(sequences, st.integers(1, 30))
def test_each_sequence_reads_itself(given_sequences: list[TokenSequence], budget: int) -> None:
    found: list[int] = []
    for (row,) in pack(given_sequences, budget=budget):
        for index, edges in row.members:
            found.append(index)
            sequence = given_sequences[index]
            assert [row.targets[edge] for edge in edges] == list(sequence.continuation)
            for position, edge in enumerate(edges):
                seen = seen_by(row, row.predictors[edge])
                expected = (sequence.prefix + sequence.continuation)[: len(sequence.prefix) + position]
                assert tuple(row.tokens[j] for j in seen) == expected
                assert [row.positions[j] for j in seen] == list(range(len(expected)))
    assert sorted(found) == list(range(len(given_sequences)))


@given(sequences, st.integers(1, 30))
def test_rows_keep_to_the_budget(given_sequences: list[TokenSequence], budget: int) -> None:
    for (row,) in pack(given_sequences, budget=budget):
        longest = max(len(given_sequences[index].inputs) for index, _ in row.members)
        assert len(row) <= max(budget, longest)


@given(sequences, st.integers(1, 30))
def test_unshared_rows_are_single_sequences(given_sequences: list[TokenSequence], budget: int) -> None:
    found = []
    for rows in pack(given_sequences, budget=budget, share=False):
        assert len(rows) == 1 or len(rows) * max(map(len, rows)) <= budget
        for row in rows:
            ((index, edges),) = row.members
            found.append(index)
            assert tuple(row.tokens) == given_sequences[index].inputs
            assert row.ends == [len(row)] * len(row)
            assert row.positions == list(range(len(row)))
            assert [row.targets[edge] for edge in edges] == list(given_sequences[index].continuation)
    assert sorted(found) == list(range(len(given_sequences)))


@given(sequences)
def test_no_token_is_computed_twice_in_a_row(given_sequences: list[TokenSequence]) -> None:
    ((row,),) = pack(given_sequences, budget=10_000)
    paths = [tuple(row.tokens[j] for j in seen_by(row, i)) for i in range(len(row))]
    assert len(set(paths)) == len(paths)


def test_a_shared_prompt_is_computed_once() -> None:
    prompt = tuple(range(80))
    ((row,),) = pack([TokenSequence(prompt, (100 + k, 1, 2)) for k in range(8)], budget=1000)
    # 80 prompt tokens, then 2 read tokens of each of 8 continuations (the last of the 3 is only predicted).
    assert len(row) == 80 + 8 * 2


def test_rows_are_filled_by_best_fit() -> None:
    """Unrelated texts of 60 and 40 tokens, all the longer ones first: each row takes one of both."""
    long = [TokenSequence((k,), tuple(range(100, 160))) for k in range(4)]
    short = [TokenSequence((50 + k,), tuple(range(200, 240))) for k in range(4)]
    rows = [row for (row,) in pack(long + short, budget=100)]
    assert [len(row) for row in rows] == [100] * 4


def test_a_text_goes_where_its_beginning_already_stands() -> None:
    prompt = tuple(range(50))
    first = [TokenSequence(prompt, (100 + k, *range(30))) for k in range(3)]  # 50 + 3 * 30 tokens
    other = [TokenSequence((99, k), tuple(range(40))) for k in range(2)]
    rows = [row for (row,) in pack(first + other, budget=150)]
    assert sorted(sorted(index for index, _ in row.members) for row in rows) == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize(("prefix", "continuation"), [((), (1,)), ((1,), ())])
def test_empty_parts_are_refused(prefix: tuple[int, ...], continuation: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one token each"):
        TokenSequence(prefix, continuation)
