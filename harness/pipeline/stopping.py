"""Gates that stop early: which measures can, and what a session hands to them and shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.errors import GateError
from harness.gates import decide_early
from harness.measures import Measure
from harness.records import GateResult, MeasureResult, Rule, Scores, Verdict

__all__ = ["check_stoppable", "decide_stopping", "stopped_measures", "stopped_name"]


def stopped_name(measure: str, gate_id: str) -> str:
    """The name under which a run's record has the scores that a gate used which may stop early."""
    return f"{measure} (as far as {gate_id} asked)"


def check_stoppable(measure: Measure, rule: Rule, seeds: Sequence[int] = ()) -> None:
    """Raises GateError for a rule that may stop early on a measure whose examples do not come one by one.

    seeds: of the recipe, where it trains several adapters.
    """
    if rule.early_stop and seeds:
        raise GateError(
            f"{measure.name}: early_stop bets on one adapter's examples, and the recipe trains {len(seeds)} (seeds). "
            "Leave early_stop out."
        )
    if rule.early_stop and measure.some is None:
        raise GateError(
            f"{measure.name}: early_stop is for means over answers that are asked for one by one: the measures of "
            "generation, structure and judge. Label scores, F1 and capability tasks are computed of all examples "
            "together; leave early_stop out."
        )


def decide_stopping(
    measure: Measure, rule: Rule, view: str, *, seed: int, texts: Mapping[str, str]
) -> tuple[Verdict, tuple[Scores, ...]]:
    """The verdict of a rule with early_stop, and the scores that it is on: of the view, and of the one compared with.

    No more examples are answered and judged than it takes.
    Raises GateError as `check_stoppable` does, and what measuring raises.
    """
    check_stoppable(measure, rule)
    examples, some = measure.examples, measure.some
    assert some is not None  # or it would have been refused

    def scores(of: str, ids: Sequence[str] | None) -> Scores:
        found = measure.scores(of) if ids is None else some(of, ids)
        if found.human is None:
            return found
        # The tests for looking more than once are of the grades as they come, and know no correction.
        note = "; ".join(filter(None, (found.note, "grades by people are not used where a gate stops early")))
        return replace(found, human=None, note=note)

    last: tuple[Scores, ...] = ()

    def take(ids: Sequence[str] | None) -> tuple[Scores, Scores | None]:
        nonlocal last
        taken = scores(view, ids), None if rule.baseline is None else scores(rule.baseline, ids)
        last = tuple(filter(None, taken))
        return taken

    verdict = decide_early(
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
    return verdict, last


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
