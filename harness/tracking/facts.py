"""Run -> what a tracker keeps of each recipe, in plain values."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records import GateResult, RecipeResult, Run, TrainingSummary

__all__ = ["AliasMove", "TrackedRecipe", "tracked_recipes"]

_LONGEST_VALUE = 2_000

# The columns of a gate, in the order of report.json. What needs the report to be read stays there.
_GATE_FIELDS = (
    *("measure", "view", "slice_name", "slice_value", "rule", "outcome", "value", "low", "high", "threshold"),
    *("compared_with", "baseline", "difference", "difference_low", "difference_high", "margin", "n", "reason", "note"),
)


@dataclass(frozen=True, slots=True)
class TrackedRecipe:
    """One recipe of one run. What is missing in the run has no key here: it is never 0.

    outcome: of the whole run. params: the resolved recipe, dotted names. tags: digests, versions, where it ran.
    curves: "loss/train" and "loss/validation", as (step, value). measures: "<measure>/<view>" and the same with
    /low, /high, /n and /n_unscored; "gates/<outcome>" counts gates. gates: one mapping each, with its id and test.
    """

    recipe: str
    run_id: str
    outcome: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    curves: Mapping[str, tuple[tuple[int, float], ...]]
    measures: Mapping[str, float]
    gates: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias of a recipe's registry that has moved, by promotion or rollback.

    adapter: the folder of the adapter's files. attestation: the file that stands beside it. counter: the
    registry's, so that a tracker's copy can be told from an older one.
    """

    recipe: str
    alias: str
    run_id: str
    adapter_digest: str
    adapter: Path
    attestation: Path | None = None
    counter: int | None = None


def tracked_recipes(run: Run) -> tuple[TrackedRecipe, ...]:
    """The recipes of a run, in its order."""
    return tuple(
        TrackedRecipe(
            recipe=recipe.name,
            run_id=run.run_id,
            outcome=run.outcome.value,
            params=dict(_flat(recipe.config)),
            tags=_tags(run, recipe),
            curves=_curves(recipe.training),
            measures=dict(_measures(recipe)),
            gates=tuple(_gate(gate) for gate in recipe.gates),
        )
        for recipe in run.recipes
    )


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{key}", text[:_LONGEST_VALUE]


def _tags(run: Run, recipe: RecipeResult) -> dict[str, str]:
    git = run.provenance.get("git")
    tags = {
        "harness.run_id": run.run_id,
        "harness.recipe": recipe.name,
        "harness.outcome": run.outcome.value,
        "harness.base": recipe.base,
        "harness.base_digest": recipe.base_digest,
        "harness.fingerprint": recipe.fingerprint,
        "harness.adapter_digest": recipe.adapter_digest,
        "harness.problem": recipe.problem,
        "harness.version": run.provenance.get("harness"),
        "harness.commit": git.get("commit") if isinstance(git, Mapping) else None,
    }
    for split, facts in recipe.data.items():
        if isinstance(facts, Mapping):
            tags[f"harness.data.{split}.sha256"] = facts.get("sha256")
            tags[f"harness.data.{split}.examples"] = facts.get("examples")
    return {name: str(value)[:_LONGEST_VALUE] for name, value in tags.items() if value not in (None, "")}


def _curves(training: TrainingSummary | None) -> dict[str, tuple[tuple[int, float], ...]]:
    if training is None:
        return {}
    curves = {"loss/train": training.loss, "loss/validation": training.validation_loss}
    return {name: curve for name, curve in curves.items() if curve}


def _measures(recipe: RecipeResult) -> Iterator[tuple[str, float]]:
    for measure in recipe.measures:
        name = f"{measure.name}/{measure.view}"
        for suffix, value in (("", measure.value), ("/low", measure.low), ("/high", measure.high)):
            if value is not None:
                yield f"{name}{suffix}", value
        yield f"{name}/n", measure.n
        yield f"{name}/n_unscored", measure.n_unscored
    for outcome, count in Counter(gate.verdict.outcome for gate in recipe.gates).items():
        yield f"gates/{outcome.value}", count
    if recipe.training is not None:
        yield "training/seconds", recipe.training.seconds
        yield "training/tokens", recipe.training.tokens
        yield "training/steps", recipe.training.steps


def _gate(gate: GateResult) -> dict[str, Any]:
    verdict = dataclasses.asdict(gate.verdict)
    fields = {name: verdict[name] for name in _GATE_FIELDS}
    return {"id": gate.id, "test": gate.test, **fields, "outcome": gate.verdict.outcome.value}
