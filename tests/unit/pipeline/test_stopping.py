"""What a session makes of gates that stop early, on a measure of its own; tests/pipeline has answers and a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from harness.measures import Measure
from harness.pipeline import Places, RecipeRun, Session
from harness.records import Example, IntegrityCheck, Outcome, Scores
from harness.report import report_html, report_json, summary_md


@pytest.fixture
def session(project: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """There is no adapter here to check; tests/pipeline/test_mutants.py does it with real ones."""
    monkeypatch.setattr(RecipeRun, "integrity", lambda _run: (IntegrityCheck("keys_loaded", True, "28 keys"),))
    tiny.write_rows(project / "fixtures" / "data" / "test.jsonl", tiny.rows("test", 120, seed=0))
    made = Session(Places.below(project), environ={}, allow_training=False)
    made.open("animals")
    return made


def own(examples: Sequence[Example], asked: list[tuple[str, str]]) -> Measure:
    """The adapter is right everywhere, the base nowhere; kept is what was asked of whom."""

    def some(view: str, ids: Sequence[str]) -> Scores:
        asked.extend((view, i) for i in ids)
        groups = {e.id: e.group or e.id for e in examples}
        found = tuple(groups[i] for i in ids) if any(e.group for e in examples) else None
        return Scores("mine.right", view, tuple(ids), (float(view == "adapter"),) * len(ids), len(ids), groups=found)

    return Measure("mine.right", lambda view: some(view, [e.id for e in examples]), some=some, examples=tuple(examples))


def test_a_measure_of_ones_own_can_stop_early(session: Session) -> None:
    asked: list[tuple[str, str]] = []
    measure = own(session.open("animals").splits.test, asked)
    small = session.gate("animals", measure, test="t", at_least=0.5, early_stop=True)
    large = session.gate("animals", measure, test="t", at_least=0.8, early_stop=True)
    gain = session.gate("animals", measure, test="t", compared_with="base", min_gain=0.1, early_stop=True)
    assert [v.outcome for v in (small, large, gain)] == [Outcome.PASS] * 3
    assert gain.n <= small.n < large.n < 120
    # In one order.
    seen = list(dict.fromkeys(i for view, i in asked if view == "adapter"))
    assert len(seen) < large.n + 16
    run = session.finish()
    shown = {m.view: m for m in run.recipes[0].measures}
    assert (shown["adapter"].n, shown["adapter"].low, shown["adapter"].method) == (large.n, large.low, large.method)
    assert shown["adapter"].note == f"stopped early, {large.n} of 120 examples"
    base = shown["base"]
    assert (base.value, base.low, base.high, base.n) == (0.0, None, None, gain.n)
    text = report_html(run)
    assert f"{gain.n} of 120 examples" in text
    assert f"stopped early, {large.n} of 120 examples" in text
    assert f"({small.n} of 120 examples)" in summary_md(run)
    assert '"out_of": 120' in report_json(run)


def test_groups_of_the_examples_are_asked_together(session: Session) -> None:
    examples = [replace(e, group=f"g{k // 4}") for k, e in enumerate(session.open("animals").splits.test)]
    asked: list[tuple[str, str]] = []
    verdict = session.gate("animals", own(examples, asked), test="t", at_least=0.5, early_stop=True)
    assert verdict.outcome is Outcome.PASS
    assert verdict.n % 4 == 0
    group = {e.id: e.group for e in examples}
    seen = [group[i] for _, i in asked[:16]]
    assert all(len(set(seen[k : k + 4])) == 1 for k in range(0, 16, 4))


def test_an_adapter_that_is_not_sound_is_not_measured(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = IntegrityCheck("keys_loaded", False, "no key fits")
    monkeypatch.setattr(RecipeRun, "integrity", lambda _run: (broken,))
    asked: list[tuple[str, str]] = []
    measure = own(session.open("animals").splits.test, asked)
    verdict = session.gate("animals", measure, test="t", at_least=0.5, early_stop=True)
    assert (verdict.outcome, asked) == (Outcome.INCOMPLETE, [])
