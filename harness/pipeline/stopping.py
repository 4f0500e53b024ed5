"""Gates that stop early: which measures can, and what a session hands to them and shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.errors import GateError
from harness.gates import decide_early
from harness.measures import Measure
from harness.records import GateResult, MeasureResult, Rule, Scores, Verdict

__all__ = ["check_stoppable", "decide_stopping", "stopped_measures"]


def check_stoppable(measure: Measure, rule: Rule) -> None:
    """Raises GateError for a rule that may stop early on a measure whose examples do not come one by one."""
    if rule.early_stop and measure.some is None:
        raise GateError(
            f"{measure.name}: early_stop is for means over answers that are asked for one by one: the measures of "
            "generation, structure and judge. Label scores, F1 and capability tasks are computed of all examples "
            "together; leave early_stop out."
        )


def decide_stopping(measure: Measure, rule: Rule, view: str, *, seed: int, texts: Mapping[str, str]) -> Verdict:
    """The verdict of a rule with early_stop; no more examples are answered and judged than it takes.

    Raises GateError as `check_stoppable` does, and what measuring raises.
    """
    check_stoppable(measure, rule)
    examples, some = measure.examples, measure.some
    assert some is not None  # or it would have been refused

    def scores(of: str, ids: Sequence[str] | None) -> Scores:
        return measure.scores(of) if ids is None else some(of, ids)

    def take(ids: Sequence[str] | None) -> tuple[Scores, Scores | None]:
        return scores(view, ids), None if rule.compared_with is None else scores(rule.compared_with, ids)

    return decide_early(
        rule,
        [example.id for example in examples],
        [e.group or e.id for e in examples] if any(e.group for e in examples) else None,
        take,
        measure=measure.name,
        view=view,
        bounds=measure.bounds,
        seed=seed,
        texts=texts,
    )


def stopped_measures(gates: Iterable[GateResult]) -> dict[tuple[str, str], MeasureResult]:
    """(measure, view) -> what a gate that stopped early found of them; of several, the one that saw most."""
    found: dict[tuple[str, str], MeasureResult] = {}
    for verdict in sorted((gate.verdict for gate in gates), key=lambda verdict: verdict.n):
        if verdict.out_of is None or verdict.value is None or verdict.n == verdict.out_of:
            continue
        note = "; ".join(filter(None, (f"stopped early, {verdict.n} of {verdict.out_of} examples", verdict.note)))
        own = MeasureResult(
            verdict.measure,
            verdict.view,
            verdict.value,
            verdict.low,
            verdict.high,
            verdict.n,
            0,
            method=verdict.method,
            note=note,
        )
        found[verdict.measure, verdict.view] = own
        if verdict.compared_with is not None:
            found[verdict.measure, verdict.compared_with] = MeasureResult(
                verdict.measure, verdict.compared_with, verdict.baseline, None, None, verdict.n, 0, note=note
            )
    return found
