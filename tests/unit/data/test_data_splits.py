"""Checks between splits, and the few-shot examples."""

# ruff: noqa: E501 - messages stand in one piece

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import check_splits, few_shot_examples
from harness.errors import DataError
from harness.records import Example, Message


def example(
    id: str, text: str | None = None, expected: str = "a", file: str = "x", label: str | None = None
) -> Example:
    messages = (Message("system", "S"), Message("user", text if text is not None else f"text of {id}"))
    return Example(id, messages, expected, label, source=f"{file}.jsonl:{id}")


def problems(train: list[Example], validation: list[Example], test: list[Example]) -> list[str]:
    with pytest.raises(DataError) as caught:
        check_splits(train, validation, test)
    return list(caught.value.problems)


def test_distinct_splits() -> None:
    check_splits([example("1"), example("2")], [example("3")], [example("4")])


def test_equal_prompts_in_train_and_validation_are_allowed() -> None:
    check_splits([example("1", "a"), example("2", "a")], [example("3", "b"), example("4", "b")], [example("5")])


@pytest.mark.parametrize("text", ["Pay  RENT", " pay rent\n", "PAY\tRENT"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_test_example_elsewhere(split: str, text: str) -> None:
    there, here = [example("1", "pay rent", file=split)], [example("9", text, file="test")]
    found = problems(there, [], here) if split == "train" else problems([], there, here)
    assert found == [
        f'test.jsonl:9: test example "9" is also in {split}, at {split}.jsonl:1; remove it from one of them'
    ]


def test_leak_names_the_first_place() -> None:
    (line,) = problems([example("1", "a"), example("2", "A")], [], [example("3", "a")])
    assert "at x.jsonl:1;" in line


def test_another_conversation_with_the_same_last_message_is_no_leak() -> None:
    turns = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Why?"))
    check_splits([Example("1", turns, "a")], [], [Example("2", turns[-1:], "a")])


def test_duplicate_ids_between_splits() -> None:
    train, validation = [example("1", "a", file="train")], [example("1", "b", file="validation")]
    assert problems(train, validation, [example("1", "c", file="test")]) == [
        'validation.jsonl:1: id "1" of validation is also in train, at train.jsonl:1; give each example an id of its own',
        'test.jsonl:1: id "1" of test is also in train, at train.jsonl:1; give each example an id of its own',
    ]  # fmt: skip


def test_a_prompt_twice_in_test() -> None:
    assert problems([], [], [example("1", "a"), example("2", "a"), example("3", "a", "b")]) == [
        "x.jsonl:2: the same prompt as x.jsonl:1; a test needs each prompt once",
        "x.jsonl:3: the same prompt as x.jsonl:1, with another expected answer; a test needs each prompt once",
    ]


def test_at_most_twenty_problems_are_shown() -> None:
    train = [example(str(number), f"t{number}") for number in range(30)]
    test = [example(f"x{number}", f"t{number}") for number in range(30)]
    found = problems(train, [], test)
    assert len(found) == 21
    assert found[-1] == "... and 10 more"


def labelled(**counts: int) -> list[Example]:
    return [example(f"{name}{k}", label=name) for name, count in counts.items() for k in range(count)]


def test_few_shot_takes_labels_in_turn() -> None:
    chosen = few_shot_examples(labelled(a=50, b=5, c=5), n=9, seed=0)
    assert Counter(item.label for item in chosen) == {"a": 3, "b": 3, "c": 3}


def test_few_shot_goes_on_when_a_label_has_no_more() -> None:
    chosen = few_shot_examples(labelled(a=1, b=10), n=6, seed=0)
    assert Counter(item.label for item in chosen) == {"a": 1, "b": 5}


def test_few_shot_with_fewer_than_the_labels_prefers_no_label() -> None:
    train = labelled(a=3, b=3, c=3, d=3)
    seen = Counter(item.label for seed in range(200) for item in few_shot_examples(train, n=2, seed=seed))
    # Each label is in half of 200 draws: mean 100, standard deviation 7; 40 is more than 5 of these.
    assert all(abs(seen[label] - 100) < 40 for label in "abcd")


def test_few_shot_is_not_sorted_by_label() -> None:
    orders = {tuple(item.label for item in few_shot_examples(labelled(a=2, b=2), n=4, seed=seed)) for seed in range(20)}
    assert len(orders) > 3


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_few_shot_is_a_balanced_and_repeatable_draw(counts: dict[str, int], seed: int, data: st.DataObject) -> None:
    train = labelled(**counts)
    n = data.draw(st.integers(0, len(train)))
    chosen = few_shot_examples(train, n=n, seed=seed)
    assert len({item.id for item in chosen}) == len(chosen) == n
    assert all(item in train for item in chosen)
    assert chosen == few_shot_examples(list(train), n=n, seed=seed)
    taken = Counter(item.label for item in chosen)
    most = max(taken.values(), default=0)
    # A label has fewer than the most, minus one, only if it has no more examples.
    assert all(taken[label] >= most - 1 or taken[label] == count for label, count in counts.items())


def test_few_shot_without_labels() -> None:
    train = [example(str(number)) for number in range(20)]
    assert len(few_shot_examples(train, n=8, seed=1)) == 8
    assert few_shot_examples(train, n=8, seed=1) != few_shot_examples(train, n=8, seed=2)
    assert few_shot_examples(train, n=0, seed=1) == ()


def test_few_shot_asks_for_too_many() -> None:
    with pytest.raises(DataError, match=r"^few_shot asks for 3 examples, and the training set has 2; lower few_shot$"):
        few_shot_examples(labelled(a=2), n=3, seed=0)


def test_few_shot_negative() -> None:
    with pytest.raises(DataError, match=r"^few_shot must be at least 0, got -1$"):
        few_shot_examples(labelled(a=2), n=-1, seed=0)
