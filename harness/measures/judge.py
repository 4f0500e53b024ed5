"""What a judge thinks of a view's answers: 1 (worst) to 5 (best) by a rubric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from harness.errors import JudgeError
from harness.measures.aligned import check_examples, scores_of, texts_of, truncation_note
from harness.measures.measure import Measure
from harness.records import Example, Outputs, Scores

__all__ = ["Judged", "JudgedAnswer"]

LOWEST, HIGHEST = 1.0, 5.0


class JudgedAnswer(NamedTuple):
    """What a judge is shown of one example."""

    id: str
    question: str
    reference: str
    response: str


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
    human: example id and response -> what people graded it, or None; it corrects the estimate of a gate.
    score: the overall grade, 1 to 5. score_by_criterion: the same for each criterion that the judge grades.
    stand_in: whether the judge only stands in for one that reads the rubric, so that a suite can leave it out.
    An answer that the judge did not grade is unscored with the judge's reason, never a low grade.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        answer: Callable[[str], Outputs],
        judge: _Judge,
        human: Callable[[str, str], _Grade | None] = lambda example_id, response: None,
    ) -> None:
        self.examples = check_examples(examples)
        self.judge_name = judge.name
        self.stand_in: bool = getattr(judge, "stand_in", False)
        self._human = human
        self._answer = answer
        self._judge = judge
        self._outputs: dict[str, Outputs] = {}
        self._grades: dict[str, dict[str, _Grade]] = {}
        self.score = self._measure("judge.score", lambda grade: grade.score)
        self.score_by_criterion = {name: self._criterion(name) for name in judge.criteria}

    def grades(self, view: str) -> dict[str, _Grade]:
        """id -> what the judge said of the view's answer, with its rationale; asked on first use.

        Raises JudgeError if the judge grades an answer twice, or one that it was not shown.
        """
        if view not in self._grades:
            texts = texts_of(self.outputs(view), view)
            items = [JudgedAnswer(e.id, _question(e), e.expected, texts[e.id]) for e in self.examples if e.id in texts]
            grades = list(self._judge.grade(items))
            asked = {item.id for item in items}
            for example_id, count in Counter(grade.id for grade in grades).items():
                if example_id not in asked or count > 1:
                    what = "twice" if example_id in asked else "without being asked"
                    raise JudgeError(f"the judge {self.judge_name} graded {example_id!r} {what}")
            self._grades[view] = {grade.id: grade for grade in grades}
        return self._grades[view]

    def outputs(self, view: str) -> Outputs:
        """What the view answered, generated on first use."""
        if view not in self._outputs:
            self._outputs[view] = self._answer(view)
        return self._outputs[view]

    def __repr__(self) -> str:
        return f"<Judged by {self.judge_name}, {len(self.examples)} examples>"

    def _criterion(self, name: str) -> Measure:
        return self._measure(f"judge.score[{name}]", lambda grade: grade.criteria.get(name))

    def _measure(self, name: str, value_of: Callable[[_Grade], float | None]) -> Measure:
        bounds = (LOWEST, HIGHEST)

        def compute(view: str) -> Scores:
            grades = self.grades(view)
            texts = texts_of(self.outputs(view), view)
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
            notes = (self._judge.note, truncation_note(self.outputs(view), self.examples))
            note = "; ".join(filter(None, notes))
            scores = scores_of(name, view, self.examples, values, unscored, bounds=bounds, note=note)
            graded = [self._human(example_id, texts[example_id]) for example_id in scores.ids]
            human = tuple(None if grade is None else value_of(grade) for grade in graded)
            return replace(scores, human=human) if any(grade is not None for grade in human) else scores

        return Measure(name, compute, bounds)


def _question(example: Example) -> str:
    """What the user asked. The system prompt is left out: the rubric says what matters."""
    turns = [message for message in example.messages if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
