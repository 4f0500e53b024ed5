"""Runs for the tests of the report: small, and with every field in use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.records import (
    Drivers,
    GateResult,
    IntegrityCheck,
    JudgingSummary,
    MeasureResult,
    Outcome,
    RecipeResult,
    RuleKind,
    Run,
    SliceShare,
    TermCount,
    TrainingSummary,
    Verdict,
)

STAND_IN = "stand-in judge: similarity to the reference answer"


def verdict(outcome: Outcome = Outcome.PASS, **changes: Any) -> Verdict:
    """At least 0.9 of a macro F1 of 0.912."""
    known = Verdict(
        measure="classification.macro_f1",
        view="adapter",
        rule="at least 0.900",
        outcome=outcome,
        reason="0.912 on 360 examples is at least 0.900.",
        n=360,
        value=0.912,
        low=0.88,
        high=0.938,
        threshold=0.9,
        at_least=0.9,
        lowest=0.0,
        highest=1.0,
        method="bootstrap, 95 % interval",
    )
    return replace(known, **changes)


def comparison(outcome: Outcome = Outcome.PASS, **changes: Any) -> Verdict:
    """A drop of 0.012 where 0.05 is allowed."""
    known = Verdict(
        measure="capability.grammar.accuracy",
        view="adapter",
        rule="drop vs base at most 0.050",
        outcome=outcome,
        reason="met",
        n=300,
        value=0.741,
        low=0.69,
        high=0.79,
        compared_with="base",
        baseline=0.753,
        difference=-0.012,
        difference_low=-0.03,
        difference_high=0.008,
        margin=0.05,
        kind=RuleKind.DROP,
        lowest=0.0,
        highest=1.0,
        method="paired, 90 % interval",
    )
    return replace(known, **changes)


def gates(*verdicts: Verdict, recipe: str = "invoices") -> tuple[GateResult, ...]:
    return tuple(GateResult(f"{recipe}/test_it/{k}", "test_it", verdict) for k, verdict in enumerate(verdicts))


def measure(name: str, view: str, value: float | None, **changes: Any) -> MeasureResult:
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    return replace(MeasureResult(name, view, value, low, high, 360, 0, "Wilson, 95 % interval"), **changes)


def recipe(**changes: Any) -> RecipeResult:
    confusion = {"labels": ["fee", "rent"], "counts": [[170, 10], [5, 175]]}
    known = RecipeResult(
        name="invoices",
        base="smollm2-135m-instruct",
        fingerprint="f1" * 32,
        adapter_digest="ad" * 32,
        from_store=False,
        training=TrainingSummary(252.4, 61_440, 100, 100, ((1, 2.5), (100, 0.25)), ((50, 0.5), (100, 0.4))),
        measures=(
            measure("classification.macro_f1", "base", 0.211),
            measure("classification.macro_f1", "prompted_base", 0.5),
            measure("classification.macro_f1", "adapter", 0.912, details={"confusion_matrix": confusion}),
            measure("judge.score", "adapter", 3.4567, note=STAND_IN),
        ),
        gates=gates(verdict(), comparison()),
        description="Files invoices.",
        config={"lora": {"r": 16, "target_modules": ["q_proj", "v_proj"]}, "seed": 0, "revision": None},
        data={"test": {"examples": 360, "sha256": "da" * 32}},
        samples=(
            {
                "id": "t-1",
                "prompt": "Which category?",
                "expected": "fee",
                "answers": {"base": "I do not know.", "prompted_base": None, "adapter": "fee\n"},
            },
        ),
    )
    return replace(known, **changes)


def run(*recipes: RecipeResult, **changes: Any) -> Run:
    known = Run(
        run_id="20261123-140712-a4f1",
        outcome=Outcome.PASS,
        started_at="2026-11-23T14:07:12+00:00",
        duration_seconds=1084.2,
        provenance={"command": "pytest suites/", "versions": {"harness": "0.1.0"}, "git": {"dirty": False}},
        recipes=recipes or (recipe(),),
    )
    return replace(known, **changes)


def failing() -> Run:
    """One recipe with every outcome, one that did not finish, and a problem of the run."""
    every = recipe(
        gates=gates(
            verdict(reason="first passed"),
            comparison(Outcome.INCONCLUSIVE, reason="too few examples"),
            verdict(
                Outcome.INCOMPLETE,
                value=None,
                low=None,
                high=None,
                reason="Not decided: 3 of 360 examples have no score.",
                n=357,
            ),
            comparison(Outcome.FAIL, difference=-0.16, difference_low=-0.2, difference_high=-0.12, reason="forgot"),
            verdict(reason="second passed"),
        )
    )
    stopped = recipe(
        name="tickets",
        adapter_digest=None,
        from_store=None,
        training=None,
        measures=(),
        gates=(),
        samples=(),
        problem="the loss is NaN at step 31",
    )
    return run(every, stopped, outcome=Outcome.FAIL, problems=("1 collected test never reported",))


def by_slice() -> Run:
    """A drop on two values of a slice, one of them failed with what stands behind it, and a slice too small."""
    drivers = Drivers(
        slices=(SliceShare("tone", "angry", 40, 0.11), SliceShare("label", "fee", 31, 0.052)),
        failing=("t-4", "t-17", "t-21", "t-30", "t-41"),
        n_failing=14,
        n_others=41,
        terms=(TermCount("refund", 9, 2, 3.61), TermCount("invoice", 6, 1, 3.02)),
    )
    lost = {"difference": -0.16, "difference_low": -0.25, "difference_high": -0.07, "n": 55}
    part = {"measure": "classification.accuracy", "slice_name": "plan"}
    return run(
        recipe(
            gates=gates(
                comparison(Outcome.FAIL, **lost, **part, slice_value="free", reason="missed", drivers=drivers),
                comparison(**part, slice_value="enterprise", n=54, note="not decided: trial (7)"),
                verdict(
                    Outcome.INCOMPLETE,
                    value=None,
                    low=None,
                    high=None,
                    slice_name="region",
                    reason="Not decided: no value of the slice 'region' has 20 examples.",
                ),
            )
        ),
        outcome=Outcome.FAIL,
    )


SOUND = (
    IntegrityCheck("keys_loaded", True, "28 keys, none missing and none unknown"),
    IntegrityCheck("logits_changed", True, "by up to 4.2 on 4 test examples"),
)


def sound() -> Run:
    """All that was checked of the adapter holds."""
    return run(recipe(integrity=SOUND))


def unsound() -> Run:
    """An adapter that does nothing, so that its gate was not decided."""
    reason = "Not decided: the adapter is not sound: switching the adapter on changes no logit on 4 test examples."
    undecided = verdict(Outcome.INCOMPLETE, value=None, low=None, high=None, n=0, reason=reason)
    failed = IntegrityCheck("logits_changed", False, "switching the adapter on changes no logit on 4 test examples")
    return run(recipe(integrity=(SOUND[0], failed), gates=gates(undecided), measures=()), outcome=Outcome.INCOMPLETE)


def corrected() -> Run:
    """Two fails of which one stands beside the other gates, and a pass that the examples hardly decide."""
    weak = "an adapter exactly as good as base would pass on 46 % of such test sets"
    return run(
        recipe(
            gates=gates(
                verdict(Outcome.FAIL, reason="far below", confidence=0.95, p_value=1e-6, after_holm=True),
                verdict(Outcome.FAIL, reason="just below", confidence=0.95, p_value=0.4, after_holm=False),
                comparison(confidence=0.95, warning=weak),
            )
        ),
        outcome=Outcome.FAIL,
    )


def named() -> Run:
    """Three named examples of which one is wrong."""
    must_pass = verdict(
        Outcome.FAIL,
        kind=RuleKind.MUST_PASS,
        rule="right on 3 named examples",
        reason="1 of 3 named examples is wrong: t-4 was answered 'rent' and is 'fee'.",
        n=3,
        value=2 / 3,
        low=None,
        high=None,
        threshold=None,
        at_least=None,
        method="",
        must_pass_failed=("t-4",),
    )
    return run(recipe(gates=gates(must_pass)), outcome=Outcome.FAIL)


JUDGING = JudgingSummary(
    judges=("anthropic claude-sonnet-5-5",),
    graded=112,
    from_cache=8,
    unscored=2,
    calls=117,
    unknown_calls=1,
    input_tokens=120_512,
    cache_write_tokens=1_200,
    cache_read_tokens=50_400,
    output_tokens=20_031,
    cost_usd=0.4563,
    budget_usd=5.0,
    prices_as_of="2026-11-23",
)


def judged() -> Run:
    """A recipe whose answers a paid judge graded."""
    return run(recipe(judging=JUDGING))
