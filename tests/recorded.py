"""A store with runs in it, without a model: what the commands on earlier runs are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness import gates, statistics
from harness.records import BASE, GateResult, MeasureResult, Outcome, RecipeResult, Run, Scores
from harness.report import report_json
from harness.store import keep_run

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
IDS = tuple(f"t-{k}" for k in range(40))


def scores(measure: str, wrong: Sequence[str] = (), *, ids: Sequence[str] = IDS, view: str = "adapter") -> Scores:
    """Right on every example but those in `wrong`; the first half has plan=free."""
    plans = tuple("free" if k < len(ids) // 2 else "paid" for k in range(len(ids)))
    values = tuple(float(example not in wrong) for example in ids)
    return Scores(measure, view, tuple(ids), values, len(ids), slices={"plan": plans})


def recipe(name: str, measured: Sequence[Scores], *, adapter: str = "ad", **asked: Any) -> RecipeResult:
    """Each adapter's measure decided by `asked` (by default at least 0.5), with the numbers that statistics give."""
    results, decided = [], []
    baselines = {one.measure: one for one in measured if one.view == BASE}
    for one in measured:
        value = statistics.estimate(one)
        results.append(
            MeasureResult(one.measure, one.view, value.value, value.low, value.high, value.n, 0, value.method)
        )
        if one.view != BASE:
            rule = gates.rule_from(
                **(asked or {"at_least": 0.5}), bounds=one.bounds, measure=one.measure, view=one.view
            )
            verdict = gates.decide(rule, one, baselines.get(one.measure), view=one.view)
            decided.append(GateResult(f"{name}/test_it/{one.measure}", "suites/test_it.py::test_it", verdict))
    return RecipeResult(
        name, "tiny", "f" * 64, adapter * 32, True, None, tuple(results), tuple(decided),
        config={"seed": 0}, data={"test": {"examples": len(IDS), "sha256": "da" * 32}},
    )  # fmt: skip


def run(number: int, *recipes: RecipeResult, **changes: Any) -> Run:
    """The run that started `number` hours after the first."""
    moment = START + timedelta(hours=number)
    outcomes = [gate.verdict.outcome for one in recipes for gate in one.gates]
    known = Run(
        run_id=f"{moment:%Y%m%d-%H%M%S}-{100 + number}",
        outcome=Outcome.PASS if set(outcomes) == {Outcome.PASS} else Outcome.FAIL,
        started_at=moment.isoformat(),
        duration_seconds=61.5,
        provenance={"git": {"commit": f"{0xC0FFEE0 + number:07x}{0:033}", "dirty": number == 1}},
        recipes=recipes,
    )
    return replace(known, **changes)


def keep(root: Path, one: Run, scored: Mapping[str, Sequence[Scores]] | None = None) -> str:
    """Record a run; its id."""
    keep_run(root, one.run_id, report_json(one), scored or {})
    return one.run_id
