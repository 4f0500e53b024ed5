"""One invocation of the harness: its recipes, the gates that were decided, and the run record they make."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from harness import statistics
from harness.errors import HarnessError, RecipeError
from harness.gates import (
    MIN_N,
    chance_caveat,
    check_whole,
    constant_answers,
    decide,
    decide_slices,
    label_caveat,
    name_fails,
    overall,
    rule_from,
    unmeasured,
)
from harness.judging import Budget, JudgeSettings, joined_judging
from harness.measures import Measure, PairwiseMeasure
from harness.pipeline.evaluation import RecipeRun
from harness.pipeline.identity import provenance
from harness.pipeline.stopping import check_stoppable, decide_stopping, stopped_measures, stopped_name
from harness.progress import Progress, Silent
from harness.promotion import DEFAULT_ALIAS
from harness.recipes import Recipe, find_recipes, load_recipe, resolved
from harness.records import (
    ADAPTER,
    BASE,
    PROMOTED,
    VIEWS,
    GateResult,
    IntegrityCheck,
    MeasureResult,
    Outcome,
    RecipeResult,
    Rule,
    Run,
    Scores,
    Verdict,
)
from harness.store import Store

__all__ = ["Places", "Session"]

_SAMPLES = 6


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


@dataclass(slots=True)
class _Record:
    """What a run has gathered on one recipe."""

    recipe: Recipe
    run: RecipeRun
    gates: list[GateResult] = field(default_factory=list)
    measures: dict[str, Measure] = field(default_factory=dict)
    scores: dict[tuple[str, str], Scores] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    suites: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, Any] = field(default_factory=dict)


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
        self._started = time.monotonic()
        self._records: dict[str, _Record] = {}
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
            record = self._records[name] = _Record(recipe, run)
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
        obstacle = _obstacle(record.run, measure.name, rule, view)
        if obstacle is not None:
            (verdict,) = self._refuse(record, name, measure, rule, view, obstacle, test=test)
            return verdict
        if rule.early_stop:
            texts = _texts(record.run, measure.name)
            verdict, used = decide_stopping(measure, rule, view, seed=record.recipe.seed, texts=texts)
            self._keep(record, name, test, measure, (verdict,))
            for scores in used:  # beside those of all examples, which another gate may ask for
                own = replace(scores, measure=stopped_name(measure.name, record.gates[-1].id))
                record.scores[own.measure, own.view] = own
            return verdict
        scores, baseline = _scores(record, measure, rule, view)
        copied = _copied(record.run, measure.name, rule, view)
        if copied is not None:
            (verdict,) = self._refuse(record, name, measure, rule, view, _Obstacle(copied), test=test)
            return verdict
        verdict = decide(
            rule,
            scores,
            baseline,
            view=view,
            seed=record.recipe.seed,
            texts=_texts(record.run, measure.name),
            answers=_answers(record.run, measure.name, view),
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
        obstacle = _obstacle(record.run, measure.name, rule, view)
        if obstacle is not None:
            return self._refuse(record, name, measure, rule, view, obstacle, test=test, slices=slices, min_n=min_n)
        scores, baseline = _scores(record, measure, rule, view)
        copied = _copied(record.run, measure.name, rule, view)
        if copied is not None:
            obstacle = _Obstacle(copied)
            return self._refuse(record, name, measure, rule, view, obstacle, test=test, slices=slices, min_n=min_n)
        verdicts = decide_slices(
            rule,
            scores,
            baseline,
            view=view,
            slices=slices,
            min_n=min_n,
            seed=record.recipe.seed,
            texts=_texts(record.run, measure.name),
        )
        self._keep(record, name, test, measure, verdicts)
        return verdicts

    def _refuse(
        self,
        record: _Record,
        name: str,
        measure: Measure,
        rule: Rule,
        view: str,
        obstacle: _Obstacle,
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

    def _keep(self, record: _Record, name: str, test: str, measure: Measure, verdicts: Sequence[Verdict]) -> None:
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

    @property
    def run_id(self) -> str:
        """Sorts by time; the process id tells runs of the same second apart."""
        return f"{self.started_at:%Y%m%d-%H%M%S}-{os.getpid()}"

    @staticmethod
    def _gate_id(record: _Record, name: str, test: str, verdict: Verdict) -> str:
        short = re.sub(r"\[.*", "", test.rpartition("::")[2])
        base = f"{name}/{short}/{verdict.measure}"
        if verdict.slice_name is not None:
            part = verdict.slice_name if verdict.slice_value is None else f"{verdict.slice_name}={verdict.slice_value}"
            base += f"{{{part}}}"
        taken = sum(_without_number(gate.id) == base for gate in record.gates)
        return f"{base}#{taken + 1}" if taken else base

    def _result(self, name: str, record: _Record) -> RecipeResult:
        run = record.run
        adapter = run.adapter_if_known()
        return RecipeResult(
            name=name,
            base=record.recipe.base.model,
            fingerprint=run.fingerprint_if_known() or "",
            adapter_digest=None if adapter is None else adapter.digest,
            from_store=run.from_store,
            training=run.training(),
            measures=tuple(_measured(record)),
            gates=_corrected(record.gates),
            description=record.recipe.description,
            problem="\n".join(record.problems) or None,
            integrity=run.integrity_if_known(),
            config=resolved(record.recipe),
            data=_data_facts(run),
            samples=tuple(_samples(run)),
            base_digest=run.base_digest_if_known(),
            suites=record.suites,
            tests=record.tests,
            promoted=run.promoted_if_known(),
            seeds=run.seed_results(),
            judging=run.judging(),
            calibration=run.judge_if_known(),
        )


def merged(runs: Sequence[Run], problems: Sequence[str]) -> Run:
    """One run of what several processes did, also where they shared a recipe's tests.

    Raises ValueError where there is no run to merge.
    """
    if not runs:
        raise ValueError("there is no run to merge")
    recipes: dict[str, RecipeResult] = {}
    for recipe in sorted((r for run in runs for r in run.recipes), key=lambda r: r.name):
        known = recipes.get(recipe.name)
        recipes[recipe.name] = recipe if known is None else _joined(known, recipe)
    all_problems = tuple(dict.fromkeys([p for run in runs for p in run.problems] + list(problems)))
    first = min(runs, key=lambda run: run.started_at)
    return replace(
        first,
        outcome=run_outcome(tuple(recipes.values()), all_problems),
        duration_seconds=max(run.duration_seconds for run in runs),
        recipes=tuple(recipes.values()),
        problems=all_problems,
    )


def merged_scores(parts: Iterable[Mapping[str, Sequence[Scores]]]) -> dict[str, tuple[Scores, ...]]:
    """The scores that go with the run that `merged` makes, each measure once a view."""
    recipes: dict[str, dict[tuple[str, str], Scores]] = {}
    for part in parts:
        for name, scores in part.items():
            recipes.setdefault(name, {}).update({(one.measure, one.view): one for one in scores})
    return {name: tuple(recipes[name].values()) for name in sorted(recipes)}


def _joined(one: RecipeResult, other: RecipeResult) -> RecipeResult:
    """What two processes found on one recipe. Gates of tests with one name get numbers, as within a process."""
    decided: dict[tuple[str, str], GateResult] = {}
    for gate in (*one.gates, *other.gates):
        known = decided.get((gate.test, gate.id))
        # Decided twice: the worse counts.
        if known is None or overall((known.verdict.outcome, gate.verdict.outcome)) is not known.verdict.outcome:
            decided[gate.test, gate.id] = gate
    gates: list[GateResult] = []
    taken: Counter[str] = Counter()
    for gate in decided.values():
        base = _without_number(gate.id)
        taken[base] += 1
        gates.append(gate if taken[base] == 1 else replace(gate, id=f"{base}#{taken[base]}"))
    problems = dict.fromkeys(filter(None, (one.problem, other.problem)))
    if one.promoted and other.promoted and one.promoted != other.promoted:
        problems["Two processes compared with different promoted adapters of this recipe; run it again."] = None
    if (one.fingerprint, one.adapter_digest) != (other.fingerprint, other.adapter_digest):
        problems["Two processes measured different adapters of this recipe; run it in one."] = None
    return replace(
        one,
        gates=_corrected(gates),
        measures=tuple({(m.name, m.view): m for m in (*one.measures, *other.measures)}.values()),
        from_store=one.from_store and other.from_store,
        samples=one.samples or other.samples,
        integrity=_joined_checks(one.integrity, other.integrity),
        judging=joined_judging(one.judging, other.judging),
        calibration=max(
            one.calibration, other.calibration, key=lambda known: (known.get("problem") is not None, len(known))
        ),
        problem="\n".join(problems) or None,
        suites={**one.suites, **other.suites},
        tests=_joined_tests(one.tests, other.tests),
        promoted=one.promoted or other.promoted,
    )


def _joined_tests(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Each process collects all tests and runs some of them."""
    if not one or not other:
        return one or other
    return {
        **one,
        "collected": max(one["collected"], other["collected"]),
        "passed": one["passed"] + other["passed"],
    }


def _joined_checks(one: Sequence[IntegrityCheck], other: Sequence[IntegrityCheck]) -> tuple[IntegrityCheck, ...]:
    """Each check once; of two results the one that did not pass counts."""
    checks: dict[str, IntegrityCheck] = {}
    for check in (*one, *other):
        known = checks.get(check.name)
        if known is None or known.passed:
            checks[check.name] = check
    return tuple(checks.values())


def _corrected(gates: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """A recipe's gates, all of them, with its fails read together."""
    verdicts = name_fails([gate.verdict for gate in gates])
    return tuple(replace(gate, verdict=verdict) for gate, verdict in zip(gates, verdicts, strict=True))


def _without_number(gate_id: str) -> str:
    """The id without what tells gates of one name apart; a "#" may also stand in a measure or a slice."""
    return re.sub(r"#\d+\Z", "", gate_id)


def run_outcome(recipes: Sequence[RecipeResult], problems: Sequence[str]) -> Outcome:
    """Pass only if every gate of every recipe passed, there was at least one, and nothing else went wrong."""
    outcomes = [gate.verdict.outcome for recipe in recipes for gate in recipe.gates]
    unsound = any(not check.passed for recipe in recipes for check in recipe.integrity)
    if problems or unsound or any(recipe.problem is not None or not recipe.gates for recipe in recipes):
        outcomes.append(Outcome.INCOMPLETE)
    return overall(outcomes)


class _Obstacle(NamedTuple):
    """Why a gate is not decided on scores, as a sentence, and what it is instead."""

    reason: str
    outcome: Outcome = Outcome.INCOMPLETE


def _obstacle(run: RecipeRun, measure: str, rule: Rule, view: str) -> _Obstacle | None:
    unsound = _unsound(run, rule, view)
    if unsound is not None:
        return _Obstacle(unsound)
    if PROMOTED in (view, rule.compared_with):
        try:
            promoted = run.promoted()
        except HarnessError as error:
            return _Obstacle(f"Not decided: {error}")
        if promoted is None:
            return _Obstacle(
                f"Not applicable: no adapter of {run.recipe.name} was promoted to {run.baseline_alias} yet. A first "
                "one is promoted with `harness promote RUN --first`.",
                Outcome.NOT_APPLICABLE,
            )
    unfit = _unfit(run, measure)
    if unfit is not None:
        return _Obstacle(unfit)
    constant = _constant(run, measure, view)
    return None if constant is None else _Obstacle(constant)


def _unsound(run: RecipeRun, rule: Rule, view: str) -> str | None:
    """Why nothing may be measured with the adapter, as a sentence, or None; also where no adapter is asked for."""
    if ADAPTER not in (view, rule.compared_with):
        return None
    failed = [check.detail for check in run.integrity() if not check.passed]
    return f"Not decided: the adapter is not sound: {'; '.join(failed)}." if failed else None


def _unfit(run: RecipeRun, measure: str) -> str | None:
    """Why the recipe's judge may decide nothing, as a sentence, or None; also for measures without a judge."""
    if not measure.startswith("judge."):
        return None
    problem = run.judge_problem()
    return None if problem is None else f"Not decided: {problem}."


def _copied(run: RecipeRun, measure: str, rule: Rule, view: str) -> str | None:
    """As `_unsound`, where the adapter's answers are known to be the base's.

    The adapter changes logits, so label scores that agree to the last digit are not its own.
    """
    if {ADAPTER, BASE} != {view, rule.compared_with} or not measure.startswith("classification."):
        return None
    ours, theirs = (run.choices.get(one) for one in (ADAPTER, BASE))
    if ours is None or theirs is None or ours.log_likelihoods != theirs.log_likelihoods:
        return None
    return (
        "Not decided: the label scores of the adapter are those of the base to the last digit, so one of them answered "
        "for both. Remove the folder answers of the store and run again."
    )


def against(measure: Measure, rule: Rule) -> Measure:
    """What the rule is on: of a measure that compares two views, the one against the view that the rule names."""
    if isinstance(measure, PairwiseMeasure) and rule.compared_with is not None:
        return measure.against(rule.compared_with)
    return measure


def _constant(run: RecipeRun, measure: str, view: str) -> str | None:
    """As `_unsound`, where a judge would be shown one answer to all questions. It is asked nothing then."""
    if not measure.startswith("judge."):
        return None
    views = (run.replicate_views() if view == ADAPTER else ()) or (view,)
    problem = next(filter(None, (constant_answers(run.answer(one)) for one in views)), None)
    return None if problem is None else f"Not decided: {problem}."


def _scores(record: _Record, measure: Measure, rule: Rule, view: str) -> tuple[Scores, Scores | None]:
    """The scores that a rule needs, of the view and of the one it is compared with; they are kept for the record."""
    scores = _of_all_seeds(record.run, measure, view)
    baseline = None if rule.baseline is None else _of_all_seeds(record.run, measure, rule.baseline)
    for one in filter(None, (scores, baseline)):
        record.scores.setdefault((measure.name, one.view), one)
    return scores, baseline


def _of_all_seeds(run: RecipeRun, measure: Measure, view: str) -> Scores:
    """A view's scores; of the adapter with those of every seed, where the recipe has several."""
    scores = measure.scores(view)
    if view != ADAPTER:
        return scores
    return replace(scores, replicates=tuple(replace(measure.scores(v), view=view) for v in run.replicate_views()))


def _texts(run: RecipeRun, measure: str) -> dict[str, str]:
    """id -> what the user asked, for measures of the recipe's test set; a capability task has items of its own."""
    if measure.startswith("capability."):
        return {}
    try:
        test = run.splits.test
    except HarnessError:
        return {}
    return {example.id: "\n".join(m.content for m in example.messages if m.role == "user") for example in test}


def _answers(run: RecipeRun, measure: str, view: str) -> dict[str, str]:
    """id -> the text that the view wrote, where it was asked to."""
    outputs = None if measure.startswith("capability.") else run.outputs.get(view)
    return {} if outputs is None else dict(zip(outputs.ids, outputs.texts, strict=True))


def _measured(record: _Record) -> list[MeasureResult]:
    """Every gated measure, on every view that was measured for it."""
    results = []
    stopped = stopped_measures(record.gates)
    for name, measure in record.measures.items():
        at_chance = chance_caveat(measure.scores(BASE)) if BASE in measure.computed_views else None
        for view in VIEWS:
            if view not in measure.computed_views and not _known_for(record.run, name, view):
                if (name, view) in stopped:
                    results.append(stopped[name, view])
                continue
            try:
                scores = _of_all_seeds(record.run, measure, view)
                record.scores.setdefault((name, view), scores)
                problem = scores.problem()
                value = None if problem else statistics.estimate(scores, confidence=0.95, seed=record.recipe.seed)
            except HarnessError as error:
                results.append(MeasureResult(name, view, None, None, None, 0, 0, note=str(error)))
                continue
            results.append(
                MeasureResult(
                    name=name,
                    view=view,
                    value=value.value if value else None,
                    low=value.low if value else None,
                    high=value.high if value else None,
                    n=len(scores.ids),
                    n_unscored=scores.n_unscored,
                    method=value.method if value else "",
                    note="; ".join(filter(None, (problem, scores.note, label_caveat(scores), at_chance))),
                    details={**_details(scores), **_corrected_by_people(scores)},
                )
            )
    return results


def _details(scores: Scores) -> dict[str, Any]:
    """What the scores bring; beside the adapter's macro-F1 a confusion matrix: counts[i][j] of label i predicted j."""
    if scores.details:
        return dict(scores.details)
    if scores.statistic != "macro_f1" or scores.view != ADAPTER or scores.truth is None or scores.predicted is None:
        return {}
    pairs = Counter(zip(scores.truth, scores.predicted, strict=True))
    labels = (*scores.labels, *sorted(set(scores.predicted) - set(scores.labels)))
    return {"confusion_matrix": {"labels": list(labels), "counts": [[pairs[t, p] for p in labels] for t in labels]}}


def _corrected_by_people(scores: Scores) -> dict[str, Any]:
    """What the judge's grades say alone, where grades by people correct them."""
    if scores.human is None or scores.problem() is not None:
        return {}
    found = statistics.correction(scores, None)
    if found is None:
        return {}
    alone = found.alone
    return {
        "judge_alone": {"value": alone.value, "low": alone.low, "high": alone.high},
        "human_grades": found.n_human,
        "weight_of_the_judge": found.weight,
    }


def _known_for(run: RecipeRun, measure: str, view: str) -> bool:
    """Whether another gate already made the answers that this measure needs, so that the view costs nothing."""
    family = measure.partition(".")[0]
    if family == "classification":
        return view in (run.outputs if measure.startswith("classification.generated") else run.choices)
    return family in ("generation", "structure") and view in run.outputs


def _data_facts(run: RecipeRun) -> dict[str, Any]:
    try:
        splits = run.splits
    except HarnessError:
        return {}
    counts = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    files = {split: {"examples": n, "sha256": run.data_digests[split]} for split, n in counts.items()}
    tasks = {f"capability task {name}": {"sha256": digest} for name, digest in run.capability_digests().items()}
    return {**files, **tasks}


def _samples(run: RecipeRun) -> list[dict[str, Any]]:
    """A few test examples with every view's answer, spread over the test set."""
    answers: dict[str, dict[str, str]] = run.texts()
    if not answers:
        answers = {
            view: {
                example_id: choices.options[max(range(len(row)), key=row.__getitem__)]
                for example_id, row in zip(choices.ids, choices.log_likelihoods, strict=True)
            }
            for view, choices in run.choices.items()
        }
    if not answers:
        return []
    test = [example for example in run.splits.test if any(example.id in known for known in answers.values())]
    chosen = test[:: max(1, len(test) // _SAMPLES)][:_SAMPLES]
    return [
        {
            "id": example.id,
            "prompt": next(m.content for m in reversed(example.messages) if m.role == "user"),
            "expected": example.expected,
            "answers": {view: answers[view].get(example.id) for view in VIEWS if view in answers},
        }
        for example in chosen
    ]
