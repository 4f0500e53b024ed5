"""What a judge thinks of a view's answers: 1 (worst) to 5 (best) by a rubric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from harness.errors import JudgeError
from harness.measures.aligned import AnswerSome, check_examples, chosen, scores_of, texts_of, truncation_note
from harness.measures.measure import Measure
from harness.measures.preference import Prefer, win_rate
from harness.measures.robustness import Attacker, robustness
from harness.measures.shown import HIGHEST, LOWEST, JudgedAnswer, question_of
from harness.records import Example, Outputs, Scores

__all__ = ["Judged", "JudgedAnswer"]


class _Grade(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def criteria(self) -> Mapping[str, float]: ...
    @property
    def problem(self) -> str | None: ...


class _Judge(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def criteria(self) -> tuple[str, ...]: ...
    def grade(self, items: Sequence[JudgedAnswer], /) -> Sequence[_Grade]: ...


class Judged:
    """The measures of a judge.

    examples: the last user message is the question (all of them where there are several), `expected` the
        reference. answer: view -> generated texts. judge: grades answers; see harness.judging.
    prefer: compares pairs of answers; None where the judge cannot. attacks: what robustness is measured with.
    seed: of what is drawn: the sides of a pair, the answers that are attacked.
    answer_some: as answer, for some of the examples; with it gates can stop early, and the judge is asked no more.
    score: the overall grade, 1 to 5. score_by_criterion: the same for each criterion that the judge grades.
    win_rate: how often the view's answer is preferred to another view's; see harness.measures.preference.
    robustness: the share of attacks that raise no grade; see harness.measures.robustness.
    human: example id and response -> what people graded it, or None; it corrects the estimate of a gate on grades.
    stand_in: whether the judge only stands in for one that reads the rubric, so that a suite can leave it out.
    An answer that the judge did not grade is unscored with the judge's reason, never a low grade.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        answer: Callable[[str], Outputs],
        judge: _Judge,
        answer_some: AnswerSome | None = None,
        *,
        prefer: Prefer | None = None,
        attacks: Sequence[Attacker] = (),
        seed: int = 0,
        human: Callable[[str, str], _Grade | None] = lambda example_id, response: None,
    ) -> None:
        self.examples = check_examples(examples)
        self.judge_name = judge.name
        self.stand_in: bool = getattr(judge, "stand_in", False)
        self._human = human
        self._answer = answer
        self._answer_some = answer_some
        self._judge = judge
        self._outputs: dict[str, Outputs] = {}
        self._grades: dict[str, dict[str, _Grade]] = {}
        self._asked: dict[str, set[str]] = {}
        self.score = self._measure("judge.score", lambda grade: grade.score)
        self.score_by_criterion = {name: self._criterion(name) for name in judge.criteria}
        self.win_rate = win_rate(self.examples, self.outputs, prefer, judge=judge.name, note=self._note, seed=seed)
        self.robustness = robustness(self.examples, self.outputs, self._grade, attacks, note=self._note, seed=seed)

    def grades(self, view: str) -> dict[str, _Grade]:
        """id -> what the judge said of the view's answer, with its rationale; asked on first use.

        Raises JudgeError if the judge grades an answer twice, or one that it was not shown.
        """
        return self._graded(view, self.outputs(view), self.examples)

    def _graded(self, view: str, outputs: Outputs, examples: Sequence[Example]) -> dict[str, _Grade]:
        """All grades of the view so far, after these answers were graded; none is asked for twice."""
        known = self._grades.setdefault(view, {})
        texts, asked = texts_of(outputs, view), self._asked.setdefault(view, set())
        new = [e for e in examples if e.id in texts and e.id not in asked]
        if new:
            known.update(self._grade([JudgedAnswer(e.id, question_of(e), e.expected, texts[e.id]) for e in new]))
            asked.update(e.id for e in new)
        return known

    def _grade(self, items: Sequence[JudgedAnswer]) -> dict[str, _Grade]:
        grades = list(self._judge.grade(items))
        asked = {item.id for item in items}
        for example_id, count in Counter(grade.id for grade in grades).items():
            if example_id not in asked or count > 1:
                what = "twice" if example_id in asked else "without being asked"
                raise JudgeError(f"the judge {self.judge_name} graded {example_id!r} {what}")
        return {grade.id: grade for grade in grades}

    def outputs(self, view: str) -> Outputs:
        """What the view answered, generated on first use."""
        if view not in self._outputs:
            self._outputs[view] = self._answer(view)
        return self._outputs[view]

    def _note(self) -> str:
        return self._judge.note

    def __repr__(self) -> str:
        return f"<Judged by {self.judge_name}, {len(self.examples)} examples>"

    def _criterion(self, name: str) -> Measure:
        return self._measure(f"judge.score[{name}]", lambda grade: grade.criteria.get(name))

    def _measure(self, name: str, value_of: Callable[[_Grade], float | None]) -> Measure:
        bounds = (LOWEST, HIGHEST)

        def scored(view: str, outputs: Outputs, examples: Sequence[Example], grades: Mapping[str, _Grade]) -> Scores:
            texts = texts_of(outputs, view)
            values: dict[str, float] = {}
            unscored: dict[str, str] = {}
            for example_id in texts:
                grade = grades.get(example_id)
                value = None if grade is None or grade.problem else value_of(grade)
                if grade is None:
                    unscored[example_id] = "the judge gave no grade"
                elif grade.problem:
                    unscored[example_id] = grade.problem
                elif value is None:
                    unscored[example_id] = "the judge gave no grade and no reason"
                elif not (math.isfinite(value) and LOWEST <= value <= HIGHEST):
                    unscored[example_id] = f"the judge's grade is {value}, not within {LOWEST:g} to {HIGHEST:g}"
                else:
                    values[example_id] = value
            note = "; ".join(filter(None, (self._judge.note, truncation_note(outputs, examples))))
            scores = scores_of(name, view, examples, values, unscored, bounds=bounds, note=note)
            graded = [self._human(example_id, texts[example_id]) for example_id in scores.ids]
            human = tuple(None if grade is None else value_of(grade) for grade in graded)
            return replace(scores, human=human) if any(grade is not None for grade in human) else scores

        def some(view: str, ids: Sequence[str]) -> Scores:
            assert self._answer_some is not None
            outputs, examples = self._answer_some(view, ids), chosen(self.examples, ids)
            return scored(view, outputs, examples, self._graded(view, outputs, examples))

        return Measure(
            name,
            lambda view: scored(view, self.outputs(view), self.examples, self.grades(view)),
            bounds,
            some=None if self._answer_some is None else some,
            examples=self.examples,
        )
