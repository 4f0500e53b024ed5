"""The judge of a recipe, and whether its grades may decide anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import DataError, JudgeError, StatisticsError
from harness.judging import (
    Answer,
    ArrivingJudge,
    ArrivingPairwiseJudge,
    Budget,
    Grade,
    Judge,
    JudgeSettings,
    Meter,
    PairwiseJudge,
    Panel,
    Rubric,
    configured_judges,
    load_rubric,
)
from harness.judging.calibration import (
    Calibration,
    Drift,
    GradedAnswer,
    anchors,
    calibrate,
    drift,
    load_calibration,
)
from harness.pipeline.grading import KnownGrades, NotStored, StoredGrades
from harness.pipeline.identity import code_digest
from harness.pipeline.preferring import StoredPreferences
from harness.progress import Progress, Silent
from harness.store import Store

__all__ = ["CheckedJudge", "JudgeCheck", "check_of"]


def check_of(
    name: str,
    rubrics: Path,
    *,
    store: Store,
    environ: Mapping[str, str],
    settings: JudgeSettings | None = None,
    budget: Budget | None = None,
    meter: Meter | None = None,
    progress: Progress | None = None,
    asked: bool = True,
) -> JudgeCheck:
    """The judge that the settings choose, by the rubric `name`, and the calibration set of that name.

    rubrics: the folder of rubrics; calibration sets are in the folder `calibration` beside it. budget: of the run.
    meter: of the recipe. asked: False where only what the judge said before is looked up.
    Raises RubricError where there is no such rubric, and JudgeError where the judges cannot be had.
    """
    rubric = load_rubric(rubrics / f"{name}.yaml")
    settings = settings or JudgeSettings()
    judges = configured_judges(
        rubric,
        settings,
        environ,
        budget=budget or Budget(settings.budget_here),
        meter=meter,
        batches=store.grades,
        progress=progress,
        asked=asked,
    )

    def joined(members: Sequence[Judge]) -> Judge:
        return members[0] if len(members) == 1 else Panel(members, rubric, settings.panel)

    file = rubrics.parent / "calibration" / f"{name}.jsonl"
    return JudgeCheck(judges, rubric, file, joined, store=store, meter=meter, progress=progress)


class CheckedJudge:
    """A judge whose note also says how far it agrees with people."""

    def __init__(self, judge: Judge, *, stand_in: bool) -> None:
        self.name, self.criteria, self.stand_in = judge.name, judge.criteria, stand_in
        self.said = ""
        self._judge = judge

    @property
    def note(self) -> str:
        return "; ".join(filter(None, (self._judge.note, self.said)))

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        return self._judge.grade(items)


class JudgeCheck:
    """Measures a judge on the answers that people graded, once a run.

    judges: one, or the members of a panel, which `joined` makes one of; what is measured is the panel.
    grades: the judge, which remembers what it graded. known: the same, which asks nobody. preferences: of a judge that
    compares answers too.

    The judge's grades of the calibration set are kept in the store like all of its grades: under judge, rubric and
    what it is told, so that they are asked again when one of these changes. A judge that can change without any of
    them, as a model behind an API can, is asked the anchors anew in every run.
    """

    def __init__(
        self,
        judges: Sequence[Judge],
        rubric: Rubric,
        file: Path,
        joined: Callable[[Sequence[Judge]], Judge],
        *,
        store: Store,
        meter: Meter | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._stored = [_remembered(judge, rubric, store, meter) for judge in judges]
        stand_in = any(getattr(judge, "stand_in", False) for judge in judges)
        self.grades = CheckedJudge(joined(self._stored), stand_in=stand_in)
        self.known = CheckedJudge(joined([KnownGrades(one) for one in self._stored]), stand_in=stand_in)
        self.preferences = _preferences(judges[0], rubric, store, meter) if len(judges) == 1 else None
        self.rubric = rubric
        self.file = file
        self.calibration: Calibration | None = None
        self.drift: Drift | None = None
        self._judges = judges
        self._joined = joined
        self._progress = progress or Silent()
        self._problem: str | None = None
        self._done = not file.exists()
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
        known = {
            "judge": self.grades.name,
            "rubric": self.rubric.name,
            "rubric_digest": self.rubric.digest,
            "min_kappa": self.rubric.min_kappa,
        }
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
        before = self._before(asked)
        if self._before(answers) is None:
            self._progress.message(f"{self.grades.name} grades the {len(answers)} answers of {self.file}")
        # A panel of its own: how far its members agree is said of the answers that a gate is on.
        grades = self._joined(self._stored).grade(answers)
        found = self.calibration = calibrate(answers, grades, self.rubric, judge=self.grades.name)
        kappa = f"{found.kappa.value:.2f} [{found.kappa.low:.2f}, {found.kappa.high:.2f}]"
        self._say(f"weighted kappa {kappa} with people on {found.n} graded answers")
        if not found.fit:
            return (
                f"judge not fit for this rubric: {self.grades.name} agrees with people's grades of {found.n} answers "
                f"at a weighted kappa of {kappa}, and {self.rubric.name} asks for {found.min_kappa:g}"
            )
        # Grades that were given a moment ago have not drifted.
        if before is None or all(getattr(judge, "deterministic", False) for judge in self._judges):
            return None
        return self._drifted(asked, before)

    def _before(self, answers: Sequence[GradedAnswer]) -> list[Grade] | None:
        """What the judge graded in an earlier run, or None where it did not grade all of these."""
        try:
            return self._joined([KnownGrades(one) for one in self._stored]).grade(answers)
        except NotStored:
            return None

    def _drifted(self, asked: tuple[GradedAnswer, ...], before: list[Grade]) -> str | None:
        again = self._joined(self._judges).grade(asked)
        found = self.drift = drift(asked, before, again, self.rubric, judge=self.grades.name)
        if not found.found:
            return None
        return (
            f"judge drift: asked the same {found.n} graded answers again, {self.grades.name} grades them "
            f"{found.shift:+.2f} (p={found.shift_p:.2g}) and {found.distance:+.2f} farther from people's grades "
            f"(p={found.distance_p:.2g}) than when it was calibrated. Remove grades.sqlite from the store, so that it "
            "is calibrated and all answers are graded again"
        )

    def _say(self, text: str) -> None:
        self.grades.said = self.known.said = text


def _remembered(judge: Judge, rubric: Rubric, store: Store, meter: Meter | None) -> StoredGrades:
    # What a language model is told is all that makes a grade; of other judges it is their code.
    told = judge.prompt_version if isinstance(judge, ArrivingJudge) else code_digest("judging/standin.py")
    return StoredGrades(judge, rubric.digest, told, store, meter)


def _preferences(judge: Judge, rubric: Rubric, store: Store, meter: Meter | None) -> StoredPreferences | None:
    """None where the judge does not compare."""
    if not isinstance(judge, PairwiseJudge):
        return None
    told = code_digest("judging/standin.py")
    if isinstance(judge, ArrivingPairwiseJudge):
        told = judge.pair_prompt_version
    return StoredPreferences(judge, judge.name, rubric.digest, told, store, meter)
