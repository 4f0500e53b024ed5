"""One invocation of the harness: its recipes, the gates that were decided, and the run record they make."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.errors import RecipeError
from harness.gates import (
    MIN_N,
    check_whole,
    decide,
    decide_slices,
    rule_from,
    unmeasured,
)
from harness.judging import Budget, JudgeSettings
from harness.measures import Measure, PairwiseMeasure
from harness.pipeline.evaluation import RecipeRun
from harness.pipeline.identity import provenance
from harness.pipeline.merging import corrected, run_outcome, without_number
from harness.pipeline.obstacles import Obstacle, constant, copied_answers, obstacle_of
from harness.pipeline.results import (
    Record,
    against,
    answers_of,
    data_facts,
    measured_in,
    samples_of,
    scores_for,
    texts_of,
)
from harness.pipeline.stopping import check_stoppable, decide_stopping, stopped_name
from harness.progress import Progress, Silent
from harness.promotion import DEFAULT_ALIAS
from harness.recipes import Recipe, find_recipes, load_recipe, resolved
from harness.records import (
    ADAPTER,
    GateResult,
    RecipeResult,
    Rule,
    Run,
    Scores,
    Verdict,
)
from harness.store import Store

__all__ = ["Places", "Session"]


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of a project. root: where the ini file is; the others default to folders in it."""

    root: Path
    recipes: Path
    capability: Path
    rubrics: Path
    store: Path
    reports: Path

    @classmethod
    def below(cls, root: Path, **chosen: Path | None) -> Places:
        """The default places in `root`, but for those that were chosen."""
        defaults = {
            "recipes": root / "fixtures" / "recipes",
            "capability": root / "fixtures" / "capability",
            "rubrics": root / "fixtures" / "rubrics",
            "store": root / ".harness",
            "reports": root / "reports",
        }
        return cls(root, **{**defaults, **{name: path for name, path in chosen.items() if path is not None}})


_runs_begun: Counter[str] = Counter()


def _run_id(started: datetime) -> str:
    """Sorts by time; the process id tells runs of the same second apart, and a number those of one process."""
    name = f"{started:%Y%m%d-%H%M%S}-{os.getpid()}"
    _runs_begun[name] += 1
    return name if _runs_begun[name] == 1 else f"{name}-{_runs_begun[name]}"


class Session:
    """Opens recipes, decides gates, and ends in a Run.

    One recipe is open at a time: opening another closes the model of the one before.
    """

    run_type: ClassVar[type[RecipeRun]] = RecipeRun
    planning: ClassVar[bool] = False
    """Whether gates are only recorded, and no verdict is to be had."""

    def __init__(
        self,
        places: Places,
        *,
        device: str | None = None,
        allow_training: bool = True,
        progress: Progress | None = None,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        baseline_alias: str = DEFAULT_ALIAS,
        judge_settings: JudgeSettings | None = None,
    ) -> None:
        self.places = places
        self.device = device
        self.allow_training = allow_training
        self.progress = progress or Silent()
        self.environ = environ
        self.baseline_alias = baseline_alias
        self.judge_settings = judge_settings or JudgeSettings()
        self._judge_budget = Budget(self.judge_settings.budget_here)
        self.started_at = now()
        self.run_id = _run_id(self.started_at)
        self._started = time.monotonic()
        self._records: dict[str, Record] = {}
        self._open: RecipeRun | None = None

    @property
    def used(self) -> bool:
        """Whether any recipe was opened."""
        return bool(self._records)

    def recipe_names(self) -> tuple[str, ...]:
        """The recipes there are. Raises RecipeError if the folder is absent."""
        return tuple(find_recipes(self.places.recipes))

    def load(self, name: str) -> Recipe:
        """Raises RecipeError for an unknown recipe or one that cannot be used."""
        files = find_recipes(self.places.recipes)
        if name not in files:
            known = ", ".join(files) or "none"
            raise RecipeError(f"there is no recipe {name!r} in {self.places.recipes}; it has: {known}")
        return load_recipe(files[name])

    def open(self, name: str) -> RecipeRun:
        """The recipe's run; the same object each time."""
        record = self._records.get(name)
        if record is None:
            recipe = self.load(name)
            run = self.run_type(
                recipe,
                store=Store(self.places.store, self.progress.message),
                progress=self.progress,
                device=self.device,
                allow_training=self.allow_training,
                capability_folder=self.places.capability,
                rubrics_folder=self.places.rubrics,
                environ=self.environ,
                baseline_alias=self.baseline_alias,
                judge_settings=self.judge_settings,
                judge_budget=self._judge_budget,
            )
            record = self._records[name] = Record(recipe, run)
        if self._open is not None and self._open is not record.run:
            self._open.close()
        self._open = record.run
        return record.run

    def gate(
        self,
        name: str,
        measure: Measure,
        *,
        test: str,
        view: str = ADAPTER,
        at_least: float | None = None,
        at_most: float | None = None,
        compared_with: str | None = None,
        max_drop: float | None = None,
        min_gain: float | None = None,
        decide_by: Literal["point", "confident"] | None = None,
        confidence: float = 0.95,
        must_pass: Sequence[str] | None = None,
        n: int | None = None,
        early_stop: bool = False,
    ) -> Verdict:
        """Decide a gate of recipe `name` and keep the verdict. Arguments as harness.gates.rule_from.

        A gate on an adapter that is not sound, or by a judge that is not fit for its rubric, is `incomplete`, and
        nothing is measured for it; so is a gate on what a judge says of answers that are nearly all one text. One that
        needs the promoted adapter is `not_applicable` before the first promotion.
        Raises GateError for arguments that make no rule, and what measuring raises.
        """
        rule = rule_from(
            at_least=at_least,
            at_most=at_most,
            compared_with=compared_with,
            max_drop=max_drop,
            min_gain=min_gain,
            decide=decide_by,
            confidence=confidence,
            must_pass=must_pass,
            n=n,
            early_stop=early_stop,
            bounds=measure.bounds,
            measure=measure.name,
            view=view,
            pairwise=isinstance(measure, PairwiseMeasure),
        )
        measure = against(measure, rule)
        record = self._records[name]
        check_stoppable(measure, rule, record.recipe.seeds)
        obstacle = obstacle_of(record.run, measure.name, rule, view)
        if obstacle is not None:
            (verdict,) = self._refuse(record, name, measure, rule, view, obstacle, test=test)
            return verdict
        if rule.early_stop:
            texts = texts_of(record.run, measure.name)
            verdict, used = decide_stopping(measure, rule, view, seed=record.recipe.seed, texts=texts)
            if used and measure.name.startswith("judge."):
                obstacle = constant(record.run.answer_some(view, used[0].ids))
                if obstacle is not None:
                    (verdict,) = self._refuse(record, name, measure, rule, view, obstacle, test=test)
                    return verdict
            self._keep(record, name, test, measure, (verdict,))
            for scores in used:  # beside those of all examples, which another gate may ask for
                own = replace(scores, measure=stopped_name(measure.name, record.gates[-1].id))
                record.scores[own.measure, own.view] = own
            return verdict
        scores, baseline = scores_for(record, measure, rule, view)
        copied = copied_answers(record.run, measure.name, rule, view)
        if copied is not None:
            (verdict,) = self._refuse(record, name, measure, rule, view, Obstacle(copied), test=test)
            return verdict
        verdict = decide(
            rule,
            scores,
            baseline,
            view=view,
            seed=record.recipe.seed,
            texts=texts_of(record.run, measure.name),
            answers=answers_of(record.run, measure.name, view),
        )
        self._keep(record, name, test, measure, (verdict,))
        return verdict

    def gate_slices(
        self,
        name: str,
        measure: Measure,
        *,
        test: str,
        slices: str | Sequence[str],
        min_n: int = MIN_N,
        view: str = ADAPTER,
        **asked: Any,
    ) -> tuple[Verdict, ...]:
        """Decide a gate on each value of a slice and keep the verdicts, the worst first.

        slices, min_n: as harness.gates.decide_slices. asked: arguments of harness.gates.rule_from.
        Raises GateError for arguments that make no rule or no slice, and what measuring raises.
        """
        pairwise = isinstance(measure, PairwiseMeasure)
        rule = rule_from(**asked, bounds=measure.bounds, measure=measure.name, view=view, pairwise=pairwise)
        check_whole(rule, measure.name)
        measure = against(measure, rule)
        record = self._records[name]
        obstacle = obstacle_of(record.run, measure.name, rule, view)
        if obstacle is not None:
            return self._refuse(record, name, measure, rule, view, obstacle, test=test, slices=slices, min_n=min_n)
        scores, baseline = scores_for(record, measure, rule, view)
        copied = copied_answers(record.run, measure.name, rule, view)
        if copied is not None:
            obstacle = Obstacle(copied)
            return self._refuse(record, name, measure, rule, view, obstacle, test=test, slices=slices, min_n=min_n)
        verdicts = decide_slices(
            rule,
            scores,
            baseline,
            view=view,
            slices=slices,
            min_n=min_n,
            seed=record.recipe.seed,
            texts=texts_of(record.run, measure.name),
        )
        self._keep(record, name, test, measure, verdicts)
        return verdicts

    def _refuse(
        self,
        record: Record,
        name: str,
        measure: Measure,
        rule: Rule,
        view: str,
        obstacle: Obstacle,
        *,
        test: str,
        slices: str | Sequence[str] | None = None,
        min_n: int = MIN_N,
    ) -> tuple[Verdict, ...]:
        verdicts = unmeasured(
            rule,
            measure=measure.name,
            view=view,
            bounds=measure.bounds,
            reason=obstacle.reason,
            slices=slices,
            min_n=min_n,
            outcome=obstacle.outcome,
        )
        self._keep(record, name, test, measure, verdicts)
        return verdicts

    def _keep(self, record: Record, name: str, test: str, measure: Measure, verdicts: Sequence[Verdict]) -> None:
        record.measures.setdefault(measure.name, measure)
        for verdict in verdicts:
            record.gates.append(GateResult(self._gate_id(record, name, test, verdict), test, verdict))

    @property
    def opened(self) -> tuple[str, ...]:
        """The recipes that were opened, in order."""
        return tuple(self._records)

    def gates(self, name: str) -> tuple[GateResult, ...]:
        """The gates of a recipe that were decided so far."""
        return tuple(self._records[name].gates)

    def problem(self, name: str, text: str) -> None:
        """Something that keeps a recipe from being judged; its outcome cannot be pass."""
        self._records[name].problems.append(text)

    def tested(self, name: str, *, suites: Mapping[str, str], tests: Mapping[str, Any]) -> None:
        """Which test files and tests there were of a recipe, for its result."""
        self._records[name].suites = suites
        self._records[name].tests = tests

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def finish(self, problems: Sequence[str] = ()) -> Run:
        """The run record. problems: what keeps the whole run from passing, e.g. tests that did not run."""
        recipes = tuple(self._result(name, record) for name, record in self._records.items())
        return Run(
            run_id=self.run_id,
            outcome=run_outcome(recipes, problems),
            started_at=self.started_at.isoformat(timespec="seconds"),
            duration_seconds=round(time.monotonic() - self._started, 3),
            provenance=provenance(self.places.root, self.environ),
            recipes=recipes,
            problems=tuple(problems),
        )

    def scores(self) -> dict[str, tuple[Scores, ...]]:
        """Of each recipe the scores of every example by measure and view, as the run's record keeps them.

        All that gates were decided on, and after `finish` also what the report shows beside it.
        """
        return {name: tuple(record.scores.values()) for name, record in self._records.items()}

    @staticmethod
    def _gate_id(record: Record, name: str, test: str, verdict: Verdict) -> str:
        short = re.sub(r"\[.*", "", test.rpartition("::")[2])
        base = f"{name}/{short}/{verdict.measure}"
        if verdict.slice_name is not None:
            part = verdict.slice_name if verdict.slice_value is None else f"{verdict.slice_name}={verdict.slice_value}"
            base += f"{{{part}}}"
        taken = sum(without_number(gate.id) == base for gate in record.gates)
        return f"{base}#{taken + 1}" if taken else base

    def _result(self, name: str, record: Record) -> RecipeResult:
        run = record.run
        adapter = run.adapter_if_known()
        return RecipeResult(
            name=name,
            base=record.recipe.base.model,
            fingerprint=run.fingerprint_if_known() or "",
            adapter_digest=None if adapter is None else adapter.digest,
            from_store=run.from_store,
            training=run.training(),
            measures=tuple(measured_in(record)),
            gates=corrected(record.gates),
            description=record.recipe.description,
            problem="\n".join(record.problems) or None,
            integrity=run.integrity_if_known(),
            config=resolved(record.recipe),
            data=data_facts(run),
            samples=tuple(samples_of(run)),
            base_digest=run.base_digest_if_known(),
            suites=record.suites,
            tests=record.tests,
            promoted=run.promoted_if_known(),
            seeds=run.seed_results(),
            judging=run.judging(),
            calibration=run.judge_if_known(),
        )
