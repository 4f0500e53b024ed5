"""What a run has gathered on one recipe, and what its result says of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import statistics
from harness.errors import HarnessError
from harness.gates import chance_caveat, label_caveat
from harness.measures import Measure, PairwiseMeasure
from harness.pipeline.evaluation import RecipeRun
from harness.pipeline.stopping import stopped_measures
from harness.recipes import Recipe
from harness.records import ADAPTER, BASE, VIEWS, GateResult, MeasureResult, Rule, Scores

__all__ = ["Record", "against", "answers_of", "data_facts", "measured_in", "samples_of", "scores_for", "texts_of"]

_SAMPLES = 6


@dataclass(slots=True)
class Record:
    """What a run has gathered on one recipe."""

    recipe: Recipe
    run: RecipeRun
    gates: list[GateResult] = field(default_factory=list)
    measures: dict[str, Measure] = field(default_factory=dict)
    scores: dict[tuple[str, str], Scores] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    suites: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, Any] = field(default_factory=dict)


def against(measure: Measure, rule: Rule) -> Measure:
    """What the rule is on: of a measure that compares two views, the one against the view that the rule names."""
    if isinstance(measure, PairwiseMeasure) and rule.compared_with is not None:
        return measure.against(rule.compared_with)
    return measure


def scores_for(record: Record, measure: Measure, rule: Rule, view: str) -> tuple[Scores, Scores | None]:
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


def texts_of(run: RecipeRun, measure: str) -> dict[str, str]:
    """id -> what the user asked, for measures of the recipe's test set; a capability task has items of its own."""
    if measure.startswith("capability."):
        return {}
    try:
        test = run.splits.test
    except HarnessError:
        return {}
    return {example.id: "\n".join(m.content for m in example.messages if m.role == "user") for example in test}


def answers_of(run: RecipeRun, measure: str, view: str) -> dict[str, str]:
    """id -> the text that the view wrote, where it was asked to."""
    outputs = None if measure.startswith("capability.") else run.outputs.get(view)
    return {} if outputs is None else dict(zip(outputs.ids, outputs.texts, strict=True))


def measured_in(record: Record) -> list[MeasureResult]:
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


def data_facts(run: RecipeRun) -> dict[str, Any]:
    try:
        splits = run.splits
    except HarnessError:
        return {}
    counts = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    files = {split: {"examples": n, "sha256": run.data_digests[split]} for split, n in counts.items()}
    tasks = {f"capability task {name}": {"sha256": digest} for name, digest in run.capability_digests().items()}
    return {**files, **tasks}


def _likeliest(row: Sequence[float | None]) -> int:
    return max(range(len(row)), key=lambda option: -math.inf if (value := row[option]) is None else value)


def samples_of(run: RecipeRun) -> list[dict[str, Any]]:
    """A few test examples with every view's answer, spread over the test set."""
    answers: dict[str, dict[str, str]] = run.texts()
    if not answers:
        answers = {
            view: {
                example_id: choices.options[_likeliest(row)]
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
