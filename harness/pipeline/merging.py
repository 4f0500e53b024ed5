"""The outcome of a run, and one run of what several processes did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.gates import name_fails, overall
from harness.judging import joined_judging
from harness.records import GateResult, IntegrityCheck, Outcome, RecipeResult, Run, Scores

__all__ = ["corrected", "merged", "merged_scores", "run_outcome", "without_number"]


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
        base = without_number(gate.id)
        taken[base] += 1
        gates.append(gate if taken[base] == 1 else replace(gate, id=f"{base}#{taken[base]}"))
    problems = dict.fromkeys(filter(None, (one.problem, other.problem)))
    if one.promoted and other.promoted and one.promoted != other.promoted:
        problems["Two processes compared with different promoted adapters of this recipe; run it again."] = None
    if (one.fingerprint, one.adapter_digest) != (other.fingerprint, other.adapter_digest):
        problems["Two processes measured different adapters of this recipe; run it in one."] = None
    return replace(
        one,
        gates=corrected(gates),
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


def corrected(gates: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """A recipe's gates, all of them, with its fails read together."""
    verdicts = name_fails([gate.verdict for gate in gates])
    return tuple(replace(gate, verdict=verdict) for gate, verdict in zip(gates, verdicts, strict=True))


def without_number(gate_id: str) -> str:
    """The id without what tells gates of one name apart; a "#" may also stand in a measure or a slice."""
    return re.sub(r"#\d+\Z", "", gate_id)


def run_outcome(recipes: Sequence[RecipeResult], problems: Sequence[str]) -> Outcome:
    """Pass only if every gate of every recipe passed, there was at least one, and nothing else went wrong."""
    outcomes = [gate.verdict.outcome for recipe in recipes for gate in recipe.gates]
    unsound = any(not check.passed for recipe in recipes for check in recipe.integrity)
    if problems or unsound or any(recipe.problem is not None or not recipe.gates for recipe in recipes):
        outcomes.append(Outcome.INCOMPLETE)
    return overall(outcomes)
