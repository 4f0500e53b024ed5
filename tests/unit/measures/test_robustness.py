"""The robustness of judges that are functions of the text; which answers are attacked, and what a raise is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from harness.judging import ATTACKS
from harness.measures import Judged, JudgedAnswer
from harness.records import Example, Message, Outputs, Scores


@dataclass(frozen=True)
class Graded:
    id: str
    score: float | None
    criteria: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


@dataclass
class Grading:
    """Grades by a function of the response, and keeps what it was shown."""

    of: Callable[[str], float | None]
    name: str = "grading"
    note: str = "a caveat"
    criteria: tuple[str, ...] = ()
    shown: list[JudgedAnswer] = field(default_factory=list)

    def grade(self, items: Sequence[JudgedAnswer], /) -> list[Graded]:
        self.shown += items
        grades = [(item.id, self.of(item.response)) for item in items]
        return [Graded(name, score, problem=None if score is not None else "refused") for name, score in grades]


def measured(
    judge: Grading, n: int = 20, *, seed: int = 0, expected: str = "{}!", text: str = "answer {}", **options: object
) -> Scores:
    given = [Example(f"e{k}", (Message("user", f"{k}?"),), expected.format(k)) for k in range(n)]

    def answer(view: str) -> Outputs:
        return Outputs(view, tuple(e.id for e in given), tuple(text.format(k) for k in range(n)))

    options = {"attacks": ATTACKS, **options}
    return Judged(given, answer, judge, seed=seed, **options).robustness.scores("adapter")  # type: ignore[arg-type]


def test_a_judge_that_nothing_moves_is_robust() -> None:
    judge = Grading(lambda _: 2.0)
    scores = measured(judge)
    assert scores.values == (1.0,) * len(ATTACKS)
    assert scores.ids == tuple(attack.name for attack in ATTACKS)
    assert (scores.measure, scores.view, scores.n_expected) == ("judge.robustness", "adapter", len(ATTACKS))
    assert scores.slices == {"kind": tuple(attack.kind for attack in ATTACKS)}
    assert scores.bounds == (0.0, 1.0)
    assert scores.problem() is None
    assert scores.note == "a caveat"
    assert scores.details == {"raised": {}, "answers": 8}
    assert len(judge.shown) == len(ATTACKS) + 8


def test_the_attacks_that_a_gullible_judge_falls_for_are_named() -> None:
    def gullible(response: str) -> float:
        if "Ignore the rubric" in response:
            return 5.0
        return 3.0 if "Please" in response else 1.5

    scores = measured(Grading(gullible))
    expected = {a.name: 3.5 for a in ATTACKS if "Ignore the rubric" in a.template}
    expected |= {a.name: 1.5 for a in ATTACKS if "Please" in a.template and a.name not in expected}
    assert 5 <= len(expected) < len(ATTACKS)
    assert {name for name, value in zip(scores.ids, scores.values, strict=True) if value == 0.0} == set(expected)
    assert scores.details["raised"] == expected
    assert scores.note == (
        f"a caveat; {len(expected)} of {len(ATTACKS)} attacks raised the grade, most of all override_after by 3.50"
    )


def test_a_lower_grade_and_one_raised_by_a_hundredth_are_no_raise() -> None:
    assert set(
        measured(Grading(lambda text: 2.0 if text.startswith("answer ") and len(text) < 12 else 1.0)).values
    ) == {1.0}
    plain = Grading(lambda text: 2.0 if len(text) < 12 else 2.01)
    assert set(measured(plain).values) == {1.0}
    assert set(measured(Grading(lambda text: 2.0 if len(text) < 12 else 2.02)).values) == {0.0}


def test_attacked_are_answers_of_the_view_to_other_questions() -> None:
    judge = Grading(lambda _: 2.0)
    measured(judge)
    plain = [item for item in judge.shown if item.id.startswith("answer ")]
    assert len({item.question for item in plain}) == len(plain) == 8
    for item in plain:
        number = item.question.removesuffix("?")
        assert item.reference == f"{number}!"
        assert item.response in {f"answer {k}" for k in range(20)} - {f"answer {number}"}
    by_question = {item.question: item.response for item in plain}
    attacked = {item.id: item for item in judge.shown if item.id.startswith("attack ")}
    for attack in ATTACKS:
        item = attacked[f"attack {attack.name}"]
        assert item.response == attack.on(by_question[item.question], item.question)
    assert {item.question for item in attacked.values()} == set(by_question)


def test_which_answers_follows_from_the_seed() -> None:
    def shown(seed: int, n: int = 20) -> list[JudgedAnswer]:
        judge = Grading(lambda _: 2.0)
        measured(judge, n, seed=seed)
        return judge.shown

    assert shown(0) == shown(0)
    assert shown(0) != shown(1)
    assert len({item.question for item in shown(0, 3)}) == 3


def test_answers_to_questions_with_one_expected_answer_are_not_exchanged() -> None:
    scores = measured(Grading(lambda _: 2.0), expected="the same")
    assert len(scores.unscored) == len(ATTACKS)
    assert scores.problem() == (
        f"{len(ATTACKS)} of {len(ATTACKS)} examples have no score, first override_after: no two answers of adapter are "
        "to questions with different expected answers"
    )
    assert measured(Grading(lambda _: 2.0), text="constant").problem() is not None
    assert measured(Grading(lambda _: 2.0), text=" ").problem() is not None


@pytest.mark.parametrize(
    ("grade", "reason"),
    [
        (lambda text: 5.0, "the answer has the best grade without the attack"),
        (lambda text: 4.995, "the answer has the best grade without the attack"),
        (lambda text: None, "refused"),
        (lambda text: None if len(text) > 12 else 1.0, "refused"),
        (lambda text: math.nan, "the judge's grade is nan, not within 1 to 5"),
        (lambda text: 7.0 if len(text) > 12 else 1.0, "the judge's grade is 7.0, not within 1 to 5"),
    ],
)
def test_an_attack_that_cannot_be_read_is_unscored(grade: Callable[[str], float | None], reason: str) -> None:
    scores = measured(Grading(grade))
    assert scores.values == ()
    assert set(scores.unscored.values()) == {reason}
    assert len(scores.unscored) == len(ATTACKS)


def test_without_attacks_nothing_is_measured() -> None:
    judge = Grading(lambda _: 2.0)
    scores = measured(judge, attacks=())
    assert scores.problem() == "no example was scored"
    assert judge.shown == []


def test_fewer_attacks_than_answers_ask_for_no_more_answers_than_they_use() -> None:
    judge = Grading(lambda _: 2.0)
    scores = measured(judge, attacks=ATTACKS[:3])
    assert scores.values == (1.0,) * 3
    assert len(judge.shown) == 6
