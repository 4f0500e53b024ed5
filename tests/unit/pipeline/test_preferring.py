"""A judge is asked only for pairs, in an order, that it has not compared before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.judging import Pair, PairToCompare, Preference
from harness.pipeline.preferring import StoredPreferences
from harness.store import Store

IDENTITY = {"name": "j", "rubric_digest": "r", "prompt_version": "c"}
PAIR = Pair("a", "What?", "this", "x", "xxx")


@dataclass
class Counting:
    """Prefers the longer answer, keeps what it was asked, and cannot compare with an empty one."""

    asked: list[list[str]] = field(default_factory=list)

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        self.asked.append([pair.id for pair in pairs])
        return [self._prefer(pair) for pair in pairs]

    @staticmethod
    def _prefer(pair: PairToCompare) -> Preference:
        if not pair.first or not pair.second:
            return Preference(pair.id, None, problem="an answer is empty")
        return Preference(pair.id, "first" if len(pair.first) > len(pair.second) else "second", "longer")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_preferences_come_back_as_given_and_are_not_asked_again(store: Store) -> None:
    pairs = [PAIR, replace(PAIR, id="b", first="xxx", second="x")]
    judge = Counting()
    first = StoredPreferences(judge, **IDENTITY, store=store).prefer(pairs)
    assert first == [Preference("a", "second", "longer"), Preference("b", "first", "longer")]
    assert judge.asked == [["a", "b"]]  # the other order is another question
    again = Counting()
    stored = StoredPreferences(again, **IDENTITY, store=store)
    assert stored.prefer(pairs) == first
    assert stored.known(pairs) == first
    assert again.asked == []


@pytest.mark.parametrize("change", [{"question": "How?"}, {"reference": "other"}, {"first": "y"}, {"second": "y"}])
def test_another_question_reference_or_answer_is_new(store: Store, change: dict[str, str]) -> None:
    judge = Counting()
    stored = StoredPreferences(judge, **IDENTITY, store=store)
    stored.prefer([PAIR])
    assert stored.known([PAIR, replace(PAIR, **change)]) is None
    stored.prefer([replace(PAIR, **change)])
    assert len(judge.asked) == 2


@pytest.mark.parametrize("key", IDENTITY)
def test_another_judge_rubric_or_prompt_is_new(store: Store, key: str) -> None:
    StoredPreferences(Counting(), **IDENTITY, store=store).prefer([PAIR])
    judge = Counting()
    StoredPreferences(judge, **{**IDENTITY, key: "other"}, store=store).prefer([PAIR])
    assert judge.asked == [["a"]]


def test_the_same_pair_under_two_ids_is_asked_once(store: Store) -> None:
    judge = Counting()
    found = StoredPreferences(judge, **IDENTITY, store=store).prefer([PAIR, replace(PAIR, id="twin")])
    assert [one.id for one in found] == ["a", "twin"]
    assert [len(ids) for ids in judge.asked] == [1]


def test_a_problem_is_reported_and_not_remembered(store: Store) -> None:
    empty = replace(PAIR, first="")
    judge = Counting()
    stored = StoredPreferences(judge, **IDENTITY, store=store)
    for _ in range(2):
        assert stored.prefer([empty]) == [Preference("a", None, problem="an answer is empty")]
    assert len(judge.asked) == 2
    assert stored.known([empty]) is None
