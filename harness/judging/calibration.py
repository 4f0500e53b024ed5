"""A judge measured against people: answers that people graded, and how far the judge's grades agree with theirs.

The agreement that counts is Cohen's kappa with quadratic weights between whole overall grades. A judge below the
rubric's `min_kappa` is not fit, and no gate may be decided by it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import DataError, JudgeError, StatisticsError
from harness.judging.protocol import HIGHEST_GRADE, LOWEST_GRADE, Answer, Grade
from harness.judging.rubric import GRADES, Rubric
from harness.records import Estimate

__all__ = [
    "ANCHORS",
    "Calibration",
    "Drift",
    "GradedAnswer",
    "HumanGrades",
    "anchors",
    "calibrate",
    "drift",
    "load_calibration",
    "load_human_grades",
]

FEWEST = 20
"""The fewest graded answers that say anything on agreement."""
ANCHORS = 20
TOLERANCE = 0.25
"""The largest shift, in grades, that is taken for no drift, however certain it is."""
ALPHA = 0.005
"""How often either of the two tests for drift finds one where there is none."""

_CALIBRATION_KEYS = ("id", "question", "reference", "response", "human", "note")
_HUMAN_KEYS = ("id", "response", "human", "note")


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """An answer that a person graded. human: criterion -> whole grade 1 to 5, of every criterion. note: why."""

    id: str
    question: str
    reference: str
    response: str
    human: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a judge's grades compare with people's on the same answers.

    kappa: weighted, of whole overall grades; fit says whether it reaches min_kappa. spearman: of overall scores.
    by_criterion: criterion -> weighted kappa, for criteria that the judge grades. None where not defined.
    length: grades that the judge adds for twice the words, among answers that people grade alike.
    counts: (5, 5), people's whole overall grade in rows, the judge's in columns. people, judged: mean overall grades.
    """

    judge: str
    rubric: str
    n: int
    min_kappa: float
    kappa: Estimate
    spearman: Estimate | None
    by_criterion: Mapping[str, Estimate | None]
    length: Estimate | None
    counts: tuple[tuple[int, ...], ...]
    people: float
    judged: float

    @property
    def fit(self) -> bool:
        return self.kappa.value >= self.min_kappa

    def facts(self) -> dict[str, Any]:
        """JSON values, as a run's record has them. position_bias: only where a judge compares pairs."""
        return {
            "judge": self.judge,
            "rubric": self.rubric,
            "examples": self.n,
            "min_kappa": self.min_kappa,
            "fit": self.fit,
            "kappa": _interval(self.kappa),
            "spearman": _interval(self.spearman),
            "by_criterion": {name: _interval(kappa) for name, kappa in self.by_criterion.items()},
            "length_bias": _interval(self.length),
            "position_bias": None,
            "mean_of_people": self.people,
            "mean_of_judge": self.judged,
            "confusion_matrix": {"labels": list(map(str, GRADES)), "counts": [list(row) for row in self.counts]},
        }


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed since the judge was calibrated, on the anchors.

    shift: mean of new less old overall score. distance: by how much farther from people's grades the new ones are.
    shift_p, distance_p: the chance of that much where nothing changed.
    """

    n: int
    shift: float
    shift_p: float
    distance: float
    distance_p: float

    @property
    def found(self) -> bool:
        """Whether one of the two is beyond the tolerance and more than chance."""
        shifted = abs(self.shift) > TOLERANCE and self.shift_p <= ALPHA
        return shifted or (self.distance > TOLERANCE and self.distance_p <= ALPHA)

    def facts(self) -> dict[str, Any]:
        return {
            "anchors": self.n,
            "found": self.found,
            "mean_shift": self.shift,
            "mean_shift_p": self.shift_p,
            "distance_shift": self.distance,
            "distance_shift_p": self.distance_p,
            "tolerance": TOLERANCE,
        }


def load_calibration(path: Path, rubric: Rubric) -> tuple[GradedAnswer, ...]:
    """The graded answers in a JSON Lines file, each with question, reference, response and human grades.

    Raises DataError with every problem of the file: a line that is no such answer, an id or answer twice, fewer than
    20 answers, or only one overall grade among them.
    """
    found, problems = _rows(path, rubric, _CALIBRATION_KEYS)
    answers = tuple(
        GradedAnswer(
            row["id"], row["question"], row.get("reference", ""), row["response"], row["human"], row.get("note", "")
        )
        for row in found
    )
    for what, keys in (
        ("id", [answer.id for answer in answers]),
        ("question and response", [f"{answer.question}\n{answer.response}" for answer in answers]),
    ):
        repeated = [a.id for a, key in zip(answers, keys, strict=True) if keys.count(key) > 1]
        if repeated:
            problems.append(f"{path}: the same {what} twice, first at {repeated[0]!r}; write each answer once")
    if not problems and len(answers) < FEWEST:
        problems.append(f"{path}: {len(answers)} graded answers say too little on agreement; {FEWEST} are needed")
    if not problems and len({_whole(rubric.overall(answer.human)) for answer in answers}) < 2:
        problems.append(f"{path}: all answers have the same overall grade; add better and worse ones")
    if problems:
        raise DataError(problems)
    return answers


HumanGrades = Callable[[str, str], Grade | None]
"""Example id and response -> what people graded that response, or None."""


def load_human_grades(path: Path, rubric: Rubric) -> HumanGrades:
    """Grades by people of answers to a recipe's test examples; a grade belongs to the response, word for word.

    A file that is absent has none. Raises DataError with every problem of the file, also for a response to an example
    that is graded twice.
    """
    if not path.exists():
        return lambda example_id, response: None
    found, problems = _rows(path, rubric, _HUMAN_KEYS)
    grades: dict[tuple[str, str], Grade] = {}
    for row in found:
        key = (row["id"], row["response"])
        if key in grades:
            problems.append(f"{path}: a response to {row['id']!r} is graded twice; keep one of the two lines")
        criteria = {name: float(grade) for name, grade in row["human"].items()}
        grades[key] = Grade(row["id"], rubric.overall(criteria), criteria)
    if problems:
        raise DataError(problems)
    return lambda example_id, response: grades.get((example_id, response))


def calibrate(
    answers: Sequence[GradedAnswer], grades: Sequence[Grade], rubric: Rubric, *, judge: str, seed: int = 0
) -> Calibration:
    """Agreement of a judge's grades with people's, with intervals that resample questions.

    grades: the judge's, of the answers in their order. Raises JudgeError where an answer has no usable grade.
    """
    from harness import statistics

    theirs = _scores(answers, grades, judge)
    ours = [rubric.overall(answer.human) for answer in answers]
    clusters = [answer.question for answer in answers]
    people, judged = statistics.whole_grades(ours).tolist(), statistics.whole_grades(theirs).tolist()
    of_criterion: dict[str, Estimate | None] = {}
    for name in (criterion.name for criterion in rubric.criteria):
        found = [grade.criteria.get(name) for grade in grades]
        given = [grade for grade in found if grade is not None]
        if len(given) == len(answers):
            human = [answer.human[name] for answer in answers]
            whole = statistics.whole_grades(given).tolist()
            of_criterion[name] = _defined(
                partial(statistics.weighted_kappa, human, whole, clusters=clusters, seed=seed)
            )
    words = [max(1, len(answer.response.split())) for answer in answers]
    return Calibration(
        judge=judge,
        rubric=rubric.name,
        n=len(answers),
        min_kappa=rubric.min_kappa,
        kappa=statistics.weighted_kappa(people, judged, clusters=clusters, seed=seed),
        spearman=_defined(partial(statistics.spearman, ours, theirs, clusters=clusters, seed=seed)),
        by_criterion=of_criterion,
        length=_defined(partial(statistics.length_bias, ours, theirs, words, clusters=clusters, seed=seed)),
        counts=tuple(tuple(row) for row in statistics.grade_counts(people, judged).tolist()),
        people=math.fsum(ours) / len(ours),
        judged=math.fsum(theirs) / len(theirs),
    )


def anchors(answers: Sequence[GradedAnswer], rubric: Rubric, n: int = ANCHORS) -> tuple[GradedAnswer, ...]:
    """The same n answers each time, or all if there are fewer: the overall grades take turns, within one by hash."""
    by_grade: dict[int, list[GradedAnswer]] = {}
    for answer in sorted(answers, key=lambda answer: hashlib.sha256(answer.id.encode()).digest()):
        by_grade.setdefault(_whole(rubric.overall(answer.human)), []).append(answer)
    turns = [(turn, grade, answer) for grade, found in sorted(by_grade.items()) for turn, answer in enumerate(found)]
    return tuple(answer for _, _, answer in sorted(turns, key=lambda item: item[:2])[:n])


def drift(
    asked: Sequence[GradedAnswer], before: Sequence[Grade], now: Sequence[Grade], rubric: Rubric, *, judge: str
) -> Drift:
    """How a judge's grades of the same answers changed. Raises JudgeError where an answer has no usable grade."""
    from harness.statistics import shift

    old, new = _scores(asked, before, judge), _scores(asked, now, judge)
    people = [rubric.overall(answer.human) for answer in asked]
    moved = shift([b - a for a, b in zip(old, new, strict=True)])
    pairs = zip(people, old, new, strict=True)
    away = shift([abs(b - human) - abs(a - human) for human, a, b in pairs], alternative="greater")
    return Drift(len(asked), moved.mean, moved.p_value, away.mean, away.p_value)


def _scores(answers: Sequence[Answer], grades: Sequence[Grade], judge: str) -> list[float]:
    """The judge's overall scores. Raises JudgeError, saying how many have none and why the first has none."""
    if [answer.id for answer in answers] != [grade.id for grade in grades]:
        raise JudgeError(f"the judge {judge} gave its grades of the calibration set for other answers than asked")
    scores: list[float] = []
    missing: list[str] = []
    for grade in grades:
        if grade.problem or grade.score is None:
            missing.append(f"{grade.id}: {grade.problem or 'no grade and no reason'}")
        elif not (math.isfinite(grade.score) and LOWEST_GRADE <= grade.score <= HIGHEST_GRADE):
            missing.append(f"{grade.id}: the grade is {grade.score}")
        else:
            scores.append(grade.score)
    if missing:
        raise JudgeError(
            f"{len(missing)} of {len(grades)} graded answers of the calibration set have no grade by {judge}, "
            f"first {missing[0]}"
        )
    return scores


def _defined(compute: Callable[[], Estimate]) -> Estimate | None:
    try:
        return compute()
    except StatisticsError:
        return None


def _whole(score: float) -> int:
    from harness.statistics import whole_grades

    return int(whole_grades([score])[0])


def _interval(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _rows(path: Path, rubric: Rubric, keys: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file of graded answers, and what is wrong with the others, a line each."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            problems.append(f"{path}:{number}: not a line of JSON; write one object a line")
            continue
        problem = _row_problem(row, rubric, keys)
        if problem:
            problems.append(f"{path}:{number}: {problem}")
        else:
            rows.append(row)
    return rows, problems


def _row_problem(row: object, rubric: Rubric, keys: Sequence[str]) -> str | None:
    if not isinstance(row, dict):
        return f"must be an object with the keys {', '.join(keys)}"
    unknown = [key for key in row if key not in keys]
    if unknown:
        return f"unknown key {unknown[0]!r}; known are {', '.join(keys)}"
    for key in keys:
        optional = key in ("reference", "note")
        if key not in row and not optional:
            return f"{key} is missing"
        if key == "human" or key not in row:
            continue
        if not isinstance(row[key], str):
            return f"{key} must be a text, got {row[key]!r}"[:200]
        if key in ("id", "question") and not row[key].strip():
            return f"{key} is empty"
    human = row["human"]
    names = [criterion.name for criterion in rubric.criteria]
    if not isinstance(human, dict) or set(human) != set(names):
        return f"human must have exactly the criteria of the rubric: {', '.join(names)}"
    for name, grade in human.items():
        if isinstance(grade, bool) or not isinstance(grade, int) or grade not in GRADES:
            return f"human.{name} must be a whole grade from 1 to 5, got {grade!r}"[:200]
    return None
