from __future__ import annotations

import dataclasses

import pytest

from harness.errors import ScoringError
from harness.measures import Measure
from harness.measures.measure import parameter
from harness.records import Scores


def scores(view: str) -> Scores:
    return Scores("m", view, ("a",), (1.0,), 1)


def test_scores_are_computed_on_first_use_and_once_a_view() -> None:
    asked = []

    def compute(view: str) -> Scores:
        asked.append(view)
        return scores(view)

    measure = Measure("m", compute)
    assert asked == []
    assert measure.scores("base") is measure.scores("base")
    assert measure.scores("adapter").view == "adapter"
    assert asked == ["base", "adapter"]


def test_a_failure_is_not_remembered() -> None:
    answers = [ScoringError("no"), scores("base")]

    def compute(view: str) -> Scores:
        answer = answers.pop(0)
        if isinstance(answer, ScoringError):
            raise answer
        return answer

    measure = Measure("m", compute)
    with pytest.raises(ScoringError):
        measure.scores("base")
    assert measure.scores("base").values == (1.0,)


def test_it_shows_its_name_bounds_and_views_and_cannot_be_changed() -> None:
    measure = Measure("judge.score", scores, (1.0, 5.0))
    assert repr(measure) == "<Measure judge.score, 1 to 5, not computed yet>"
    measure.scores("base")
    assert repr(measure) == "<Measure judge.score, 1 to 5, computed for base>"
    with pytest.raises(dataclasses.FrozenInstanceError):
        measure.name = "other"  # type: ignore[misc]


def test_parameters_in_names_are_one_short_line_and_distinct() -> None:
    assert parameter("a.*é") == "a.*é"
    assert parameter("a\nb\t\x1b") == r"a\nb\t\x1b"
    long = parameter("x" * 100)
    assert len(long) <= 60
    assert long != parameter("x" * 101)
