"""The judge of a recipe, and whether its grades may decide anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import DataError, JudgeError, StatisticsError
from harness.judging import Grade, Judge, Rubric, judge_from_environment, load_rubric
from harness.judging.calibration import (
    Calibration,
    Drift,
    GradedAnswer,
    anchors,
    calibrate,
    drift,
    load_calibration,
)
from harness.pipeline.grading import StoredGrades
from harness.pipeline.identity import code_digest
from harness.progress import Progress, Silent
from harness.store import Store

__all__ = ["JudgeCheck", "check_of"]


def check_of(
    name: str, rubrics: Path, *, store: Store, environ: Mapping[str, str], progress: Progress | None = None
) -> JudgeCheck:
    """The judge that the environment allows, by the rubric `name`, and the calibration set of that name.

    rubrics: the folder of rubrics; calibration sets are in the folder `calibration` beside it.
    Raises RubricError where there is no such rubric.
    """
    rubric = load_rubric(rubrics / f"{name}.yaml")
    judge = judge_from_environment(rubric, environ)
    grades = StoredGrades(judge, rubric.digest, code_digest("judging"), store)
    return JudgeCheck(judge, rubric, grades, rubrics.parent / "calibration" / f"{name}.jsonl", progress=progress)


class JudgeCheck:
    """Measures a judge on the answers that people graded, once a run.

    The judge's grades of the calibration set are kept in the store like all of its grades: under judge, rubric and
    code, so that they are asked again when one of these changes. A judge that can change without any of them, as a
    model behind an API can, is asked the anchors anew in every run.
    """

    def __init__(
        self, judge: Judge, rubric: Rubric, grades: StoredGrades, file: Path, *, progress: Progress | None = None
    ) -> None:
        self.grades = grades
        self.rubric = rubric
        self.file = file
        self.calibration: Calibration | None = None
        self.drift: Drift | None = None
        self._judge = judge
        self._progress = progress or Silent()
        self._problem: str | None = None
        self._done = not file.exists()
        self._note = grades.note
        if self._done:
            self._say("not calibrated against grades by people")

    def problem(self) -> str | None:
        """Why no gate may be decided by this judge, as a clause, or None. The judge is asked on first use."""
        if not self._done:
            try:
                self._problem = self._measure()
            except (DataError, JudgeError, StatisticsError) as error:
                self._problem = f"the judge cannot be calibrated: {' '.join(str(error).split())}"
            self._done = True
        return self._problem

    def facts(self) -> dict[str, Any]:
        """JSON values for the run's record; {} before the judge was checked."""
        if not self._done:
            return {}
        known = {"judge": self.grades.name, "rubric": self.rubric.name, "min_kappa": self.rubric.min_kappa}
        return {
            **known,
            "calibrated": self.calibration is not None,
            "problem": self._problem,
            **(self.calibration.facts() if self.calibration is not None else {}),
            "drift": None if self.drift is None else self.drift.facts(),
        }

    def _measure(self) -> str | None:
        answers = load_calibration(self.file, self.rubric)
        asked = anchors(answers, self.rubric)
        before = self.grades.known(asked)
        if self.grades.known(answers) is None:
            self._progress.message(f"{self.grades.name} grades the {len(answers)} answers of {self.file}")
        grades = self.grades.grade(answers)
        found = self.calibration = calibrate(answers, grades, self.rubric, judge=self.grades.name)
        kappa = f"{found.kappa.value:.2f} [{found.kappa.low:.2f}, {found.kappa.high:.2f}]"
        self._say(f"weighted kappa {kappa} with people on {found.n} graded answers")
        if not found.fit:
            return (
                f"judge not fit for this rubric: {self.grades.name} agrees with people's grades of {found.n} answers "
                f"at a weighted kappa of {kappa}, and {self.rubric.name} asks for {found.min_kappa:g}"
            )
        # Grades that were given a moment ago have not drifted.
        if before is None or getattr(self._judge, "deterministic", False):
            return None
        return self._drifted(asked, before)

    def _drifted(self, asked: tuple[GradedAnswer, ...], before: list[Grade]) -> str | None:
        found = self.drift = drift(asked, before, self._judge.grade(asked), self.rubric, judge=self.grades.name)
        if not found.found:
            return None
        return (
            f"judge drift: asked the same {found.n} graded answers again, {self.grades.name} grades them "
            f"{found.shift:+.2f} (p={found.shift_p:.2g}) and {found.distance:+.2f} farther from people's grades "
            f"(p={found.distance_p:.2g}) than when it was calibrated. Empty the grades in the store, so that it is "
            "calibrated and all answers are graded again"
        )

    def _say(self, text: str) -> None:
        self.grades.note = "; ".join(filter(None, (self._note, text)))
