"""Suites without a model: gates are recorded with their rule and their test set, and nothing is measured.

A measure needs answers to say how many examples it has, with which labels, groups and slices. Answers of an earlier
run are taken from the store; where there are none, blank ones stand in, and their values count for nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.engine.task_files import find_task
from harness.errors import AdapterMissing, BaseModelError
from harness.gates import MIN_N, Plan, check_whole, in_words, plan_gate, plan_slices, rule_from
from harness.judging import ATTACKS, Grade, HumanGrades, Judge, PairToCompare, Preference
from harness.measures import CapabilityResult, Judged, Measure, PairwiseMeasure
from harness.pipeline.evaluation import RecipeRun
from harness.pipeline.grading import NotStored
from harness.pipeline.preferring import StoredPreferences
from harness.pipeline.remembering import Keep
from harness.pipeline.results import against
from harness.pipeline.session import Session
from harness.pipeline.stopping import check_stoppable
from harness.records import ADAPTER, VIEWS, Choices, Example, Outcome, Outputs, Rule, Verdict
from harness.store import Adapter

__all__ = ["PlanningRun", "PlanningSession"]

# After the expected text: a measure of overlap then has values between 0 and 1, as it will have, while a label on the
# first line and a field are found.
_BLANK = "\n\nnot answered yet"
_MIDDLE_GRADE = 3.0


_UNKNOWN = (NotStored, AdapterMissing, BaseModelError)


class PlanningRun(RecipeRun):
    """A recipe's run that trains, loads and asks nothing, and keeps nothing."""

    asks_judges: ClassVar[bool] = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "allow_training": False})
        self._blank: set[tuple[str, str]] = set()

    def measured(self, measure: str, view: str) -> bool:
        """Whether the scores of a measure that was asked for on a view are from an earlier run."""
        family, _, rest = measure.partition(".")
        if family == "capability":
            return (f"capability.{rest.rpartition('.')[0]}", view) not in self._blank
        kinds = {
            "generation": ("outputs",),
            "structure": ("outputs",),
            "judge": ("outputs", "preferences") if measure.startswith("judge.win_rate") else ("grades",),
            "classification": ("outputs",) if measure.startswith("classification.generated") else ("choices",),
        }.get(family)
        # Of a suite's own measure it is not known what it looks at.
        return not any(v == view and (kinds is None or k in kinds) for k, v in self._blank)

    def adapter_or_none(self) -> Adapter | None:
        try:
            return self.adapter()
        except _UNKNOWN:
            return None

    def answer(self, view: str) -> Outputs:
        try:
            return super().answer(view)
        except _UNKNOWN:
            self._blank.add(("outputs", view))
            test = self.splits.test
            self.outputs[view] = Outputs(view, _ids(test), tuple(e.expected + _BLANK for e in test))
            return self.outputs[view]

    def _choices(self, view: str, *, every: bool) -> Choices:
        try:
            return super()._choices(view, every=every)
        except _UNKNOWN:
            self._blank.add(("choices", view))
            test, labels = self.splits.test, tuple(self.recipe.data.labels or ())
            rows = tuple(tuple(0.0 if label == e.label else -1.0 for label in labels) for e in test)
            return Choices(view, _ids(test), labels, rows)

    def _capability_result(self, name: str, view: str) -> CapabilityResult:
        try:
            return super()._capability_result(name, view)
        except _UNKNOWN:
            self._blank.add((f"capability.{name}", view))
            ids = _item_ids(name, self.capability_folder)
            zeros = (0.0,) * len(ids)
            return CapabilityResult(view, ids, {"acc": zeros, "acc_norm": zeros}, len(ids))

    def _judged(
        self, judge: Judge, preferences: StoredPreferences | None = None, human: HumanGrades | None = None
    ) -> Judged:
        def prefer(pairs: Sequence[PairToCompare]) -> list[Preference]:
            found = None if preferences is None else preferences.known(pairs)
            if found is None:
                self._blank.update(("preferences", view) for view in VIEWS)
                found = [Preference(pair.id, "tie") for pair in pairs]
            return found

        return _KnownGrades(
            self.splits.test,
            self.answer,
            self.answer_some,
            judge,
            lambda view: self._blank.add(("grades", view)),
            prefer=None if preferences is None else prefer,
            seed=self.recipe.seed,
        )

    def _generate(self, view: str, examples: Sequence[Example], keep: Keep) -> None:
        raise NotStored(f"{self.recipe.name}: {view} has not answered yet")

    def _score(self, view: str, examples: Sequence[Example], keep: Keep, *, every: bool) -> None:
        raise NotStored(f"{self.recipe.name}: {view} has not scored the labels yet")

    def _run_capability(self, name: str, view: str) -> CapabilityResult:
        raise NotStored(f"{self.recipe.name}: {view} has not been asked {name} yet")


class _KnownGrades(Judged):
    """Grades from the store, or the middle one for every answer. No judge is asked."""

    def __init__(
        self,
        examples: Iterable[Example],
        answer: Callable[[str], Outputs],
        answer_some: Callable[[str, Sequence[str]], Outputs],
        judge: Judge,
        blank: Callable[[str], None],
        *,
        prefer: Callable[[Sequence[PairToCompare]], list[Preference]] | None,
        seed: int,
    ) -> None:
        super().__init__(examples, answer, judge, answer_some, prefer=prefer, attacks=ATTACKS, seed=seed)
        self._mark_blank = blank
        self._criteria = judge.criteria

    def grades(self, view: str) -> dict[str, Any]:
        if view not in self._grades:
            try:
                return super().grades(view)
            except NotStored:
                self._mark_blank(view)
                by_criterion = dict.fromkeys(self._criteria, _MIDDLE_GRADE)
                self._grades[view] = {e.id: Grade(e.id, _MIDDLE_GRADE, by_criterion) for e in self.examples}
        return self._grades[view]


class PlanningSession(Session):
    """Records gates with what their test sets can decide, and decides none."""

    run_type: ClassVar[type[RecipeRun]] = PlanningRun
    planning: ClassVar[bool] = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._plans: dict[str, list[tuple[str, Plan]]] = {}

    def gate(
        self,
        name: str,
        measure: Measure,
        *,
        test: str,
        view: str = ADAPTER,
        decide_by: Literal["point", "confident"] | None = None,
        **asked: Any,
    ) -> Verdict:
        """As Session.gate, with a verdict that says nothing and is incomplete."""
        rule = _rule(measure, view, decide=decide_by, **asked)
        check_stoppable(measure, rule, self._records[name].recipe.seeds)
        return self._planned(name, measure, rule, test, view, None, 0)[0]

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
        """As Session.gate_slices, with verdicts that say nothing and are incomplete."""
        rule = _rule(measure, view, **asked)
        check_whole(rule, measure.name)
        return self._planned(name, measure, rule, test, view, slices, min_n)

    def _planned(
        self,
        name: str,
        measure: Measure,
        rule: Rule,
        test: str,
        view: str,
        slices: str | Sequence[str] | None,
        min_n: int,
    ) -> tuple[Verdict, ...]:
        run = self._records[name].run
        assert isinstance(run, PlanningRun)  # run_type
        measure = against(measure, rule)
        views = [view] if rule.baseline is None else [view, rule.baseline]
        try:
            found = [measure.scores(one) for one in views]
        except NotStored as error:
            plans: tuple[Plan, ...] = (
                Plan(measure.name, view, in_words(rule), rule.decide, rule.confidence, None, problem=str(error)),
            )
        else:
            scores, baseline = found[0], found[1] if len(found) > 1 else None
            measured = all(run.measured(measure.name, one) for one in views)
            if slices is None:
                plans = (plan_gate(rule, scores, baseline, measured=measured),)
            else:
                plans = plan_slices(rule, scores, baseline, slices=slices, min_n=min_n, measured=measured)
        self._plans.setdefault(name, []).extend((test, plan) for plan in plans)
        return tuple(
            Verdict(
                measure=plan.measure,
                view=plan.view,
                rule=plan.rule,
                outcome=Outcome.INCOMPLETE,
                reason="Not decided: this is a plan, and nothing was measured.",
                n=plan.n or 0,
                kind=rule.kind,
                slice_name=plan.slice_name,
                slice_value=plan.slice_value,
            )
            for plan in plans
        )

    def plan(self) -> list[dict[str, Any]]:
        """JSON values: each recipe's name and its gates, with the test that asked and the fields of Plan."""
        return [
            {
                "name": name,
                "gates": [{"test": test, **dataclasses.asdict(plan)} for test, plan in self._plans[name]],
            }
            for name in self._plans
        ]


def _rule(measure: Measure, view: str, **asked: Any) -> Rule:
    pairwise = isinstance(measure, PairwiseMeasure)
    return rule_from(**asked, bounds=measure.bounds, measure=measure.name, view=view, pairwise=pairwise)


def _ids(examples: Sequence[Example]) -> tuple[str, ...]:
    return tuple(example.id for example in examples)


def _item_ids(name: str, folder: Path | None) -> tuple[str, ...]:
    """One id for each item that lm-eval would ask. Raises NotStored where their number is not known here."""
    file = find_task(name, folder)
    config: Mapping[str, Any] = {} if file is None else file.config
    split = config.get("test_split") or config.get("validation_split")
    rows = None if file is None else file.rows.get(str(split))
    if rows is None:
        raise NotStored("how many items the task has is known after its first run")
    return tuple(map(str, range(len(rows))))
