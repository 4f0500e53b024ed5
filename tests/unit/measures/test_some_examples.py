"""Measures of some of the examples: what gates that stop early ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from harness.errors import JudgeError
from harness.measures import Classification, Generation, Judged, JudgedAnswer, Measure, Structure
from harness.records import Choices, Example, Message, Outputs

EXAMPLES = tuple(Example(f"e{k}", (Message("user", f"{k}?"),), "yes", group=f"g{k // 2}") for k in range(6))
TEXTS = dict(zip((e.id for e in EXAMPLES), ("yes", "no", "yes", "yes", "no", "yes"), strict=True))


class Answering:
    """Answers all or some examples and keeps what it was asked; e5 is cut off."""

    def __init__(self, without: str = "") -> None:
        self.asked: list[tuple[str, ...]] = []
        self.without = without

    def all(self, view: str) -> Outputs:
        return self.some(view, tuple(TEXTS))

    def some(self, view: str, ids: Sequence[str]) -> Outputs:
        self.asked.append(tuple(ids))
        known = tuple(i for i in TEXTS if i in ids and i != self.without)
        return Outputs(view, known, tuple(TEXTS[i] for i in known), frozenset({"e5"} & set(known)))


@dataclass(frozen=True)
class Graded:
    id: str
    score: float | None
    criteria: dict[str, float]
    problem: str | None = None


class Judge:
    name, note, criteria = "fixed", "", ("tone",)

    def __init__(self, *, adds: str = "") -> None:
        self.asked: list[list[str]] = []
        self.adds = adds

    def grade(self, items: Sequence[JudgedAnswer], /) -> list[Graded]:
        self.asked.append([item.id for item in items])
        ids = [*(item.id for item in items), *([self.adds] if self.adds else [])]
        return [Graded(i, 5.0 if TEXTS[i] == "yes" else 2.0, {"tone": 3.0}) for i in ids]


def measures(answering: Answering) -> list[Measure]:
    return [
        Generation(EXAMPLES, answering.all, answering.some).exact_match,
        Structure(EXAMPLES, answering.all, answering.some).regex("yes"),
        Judged(EXAMPLES, answering.all, Judge(), answering.some).score,
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_some_scores_are_those_of_all_and_nothing_else_is_asked(number: int) -> None:
    answering = Answering()
    measure = measures(answering)[number]
    assert measure.some is not None
    assert measure.examples == EXAMPLES
    some = measure.some("adapter", ["e4", "e1", "e5"])
    assert answering.asked == [("e4", "e1", "e5")]
    assert measure.computed_views == ()
    assert some.problem() is None
    assert (some.ids, some.n_expected, some.groups) == (("e1", "e4", "e5"), 3, ("g0", "g2", "g2"))
    assert some.note == "1 of 3 answers were cut off at the token limit"
    whole = measure.scores("adapter")
    of_all = dict(zip(whole.ids, whole.values, strict=True))
    assert some.values == tuple(of_all[i] for i in some.ids)
    assert (some.bounds, some.statistic, some.measure) == (whole.bounds, whole.statistic, measure.name)
    # Nothing that was asked for is left out without a word.
    missing = measures(Answering(without="e1"))[number]
    assert missing.some is not None
    assert missing.some("adapter", ["e1", "e4"]).unscored == {"e1": "no answer from the view adapter"}


def test_a_judge_sees_each_answer_once() -> None:
    judge = Judge()
    judged = Judged(EXAMPLES, Answering().all, judge, Answering().some)
    some = judged.score.some
    assert some is not None
    some("adapter", ["e3", "e0"])
    some("adapter", ["e0", "e1"])
    some("base", ["e0"])
    tone = judged.score_by_criterion["tone"].some
    assert tone is not None
    assert tone("adapter", ["e1"]).values == (3.0,)
    assert judge.asked == [["e0", "e3"], ["e1"], ["e0"]]
    assert set(judged.grades("adapter")) == set(TEXTS)
    assert judge.asked[3:] == [["e2", "e4", "e5"]]
    assert judged.score.scores("adapter").values == (5.0, 2.0, 5.0, 5.0, 2.0, 5.0)
    assert len(judge.asked) == 4


def test_a_judge_that_grades_what_it_was_not_shown_is_an_error_also_in_parts() -> None:
    some = Judged(EXAMPLES, Answering().all, Judge(adds="e0"), Answering().some).score.some
    assert some is not None
    with pytest.raises(JudgeError, match="the judge fixed graded 'e0' without being asked"):
        some("adapter", ["e1"])
    with pytest.raises(JudgeError, match="the judge fixed graded 'e0' twice"):
        some("adapter", ["e0"])


def test_what_is_computed_of_all_examples_together_has_no_part() -> None:
    labelled = [Example("a", (), "yes", label="yes")]
    classes = Classification(labelled, ("yes", "no"), lambda view: Choices(view, (), (), ()), Answering().all)
    for measure in (
        classes.accuracy,
        classes.generated.accuracy,
        Generation(EXAMPLES, Answering().all).exact_match,
        Structure(EXAMPLES, Answering().all).max_words(3),
        Judged(EXAMPLES, Answering().all, Judge()).score,
    ):
        assert measure.some is None
