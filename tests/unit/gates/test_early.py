"""Gates that stop early: what they ask for, what they say, and how often they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.errors import GateError
from harness.gates import decide, decide_early, decide_slices, plan_gate, rule_from
from harness.gates.parts import restricted
from harness.records import Outcome, Rule, Scores, Verdict
from harness.statistics import UnitTest, drawn_units, stop_early


def scores(values: Sequence[float], view: str = "adapter", **fields: Any) -> Scores:
    ids = tuple(f"t-{k}" for k in range(len(values)))
    fields = {"ids": ids, "n_expected": len(values), **fields}
    return Scores("generation.exact_match", view, values=tuple(map(float, values)), **fields)


class Source:
    """Scores that are handed out as they are asked for, and what was asked."""

    def __init__(self, whole: Scores, baseline: Scores | None = None) -> None:
        self.whole, self.baseline = whole, baseline
        self.asked: list[str] = []
        self.all = False

    def __call__(self, ids: Sequence[str] | None) -> tuple[Scores, Scores | None]:
        if ids is None:
            self.all = True
            return self.whole, self.baseline
        self.asked += [example_id for example_id in ids if example_id not in self.asked]
        part = frozenset(ids)
        return self.part(self.whole, part), None if self.baseline is None else self.part(self.baseline, part)

    def part(self, whole: Scores, ids: frozenset[str]) -> Scores:
        return replace(restricted(whole, ids), unscored={i: why for i, why in whole.unscored.items() if i in ids})

    def decide(self, rule: Rule, **fields: Any) -> Verdict:
        known = {"measure": self.whole.measure, "view": "adapter", "bounds": self.whole.bounds, "seed": 0, **fields}
        return decide_early(rule, self.whole.ids, self.whole.groups, self, **known)


AT_LEAST = rule_from(at_least=0.8, early_stop=True)
GAIN = rule_from(compared_with="base", min_gain=0.1, early_stop=True)


def test_a_clear_threshold_takes_a_part_of_the_examples() -> None:
    source = Source(scores([1.0] * 200))
    verdict = source.decide(AT_LEAST)
    assert verdict.outcome is Outcome.PASS
    # As soon as by the statistics alone, with a fifth of the error of one end.
    stop = stop_early(source.whole, None, 0.8, share=0.2)
    assert (verdict.n, verdict.out_of) == (stop.used, 200)
    assert stop.used < 60
    # Sixteen at once, and no more than that in vain.
    assert stop.used <= len(source.asked) < stop.used + 16
    assert not source.all
    assert verdict.value == 1.0
    assert verdict.low is not None
    assert 0.8 < verdict.low < 0.9
    assert verdict.high == pytest.approx(1.0)
    assert verdict.reason == (
        f"1.000 [{verdict.low:.3f}, 1.000] on {stop.used} examples: the whole interval is at least 0.800. "
        f"Stopped early: {stop.used} of 200 examples were enough."
    )
    assert verdict.method == "betting, holds whenever one stops, 99 % interval"
    assert (verdict.confidence, verdict.p_value, verdict.warning) == (0.95, None, "")


def test_a_clear_fail_stops_too_with_evidence_for_it() -> None:
    values = np.random.default_rng(0).random(200) < 0.4
    source = Source(scores(values))
    verdict = source.decide(AT_LEAST)
    assert (verdict.outcome, verdict.out_of) == (Outcome.FAIL, 200)
    assert verdict.n < 60
    assert verdict.high is not None
    assert verdict.high < 0.8
    assert verdict.p_value is not None
    # The error of one end of the interval, 2.5 %; of it a fifth was bet with.
    assert 0.0001 < verdict.p_value <= 0.025
    assert verdict.drivers is not None
    assert set(verdict.drivers.failing) <= set(source.asked)


@pytest.mark.parametrize(("gain", "outcome"), [(0.4, Outcome.PASS), (-0.2, Outcome.FAIL)])
def test_a_comparison_asks_the_same_examples_of_both_views(gain: float, outcome: Outcome) -> None:
    rng = np.random.default_rng(1)
    base = rng.random(300) < 0.5
    ours = np.where(rng.random(300) < abs(gain) * 2, gain > 0, base)
    source = Source(scores(ours), scores(base, "base"))
    verdict = source.decide(GAIN)
    assert verdict.outcome is outcome
    assert verdict.n == stop_early(source.whole, source.baseline, 0.1, share=0.2).used < 200
    assert verdict.difference is not None
    assert verdict.difference_low is not None
    assert verdict.difference_high is not None
    assert verdict.difference_low < verdict.difference < verdict.difference_high
    assert (verdict.difference_low > 0.1) == (outcome is Outcome.PASS)
    used = restricted(source.whole, frozenset(source.asked))
    assert verdict.value is not None
    assert verdict.baseline is not None
    assert verdict.value - verdict.baseline == pytest.approx(verdict.difference)
    assert abs(verdict.value - np.mean(used.values)) < 0.2
    assert "98 % interval (one-sided 99 %); value: betting, holds whenever one stops, 95 % interval" in verdict.method
    assert "with 95 % confidence. Stopped early: " in verdict.reason


def test_what_is_not_decided_early_is_decided_on_all_at_the_confidence_left() -> None:
    """132 of 150 at a bar of 0.8: the 95 % interval clears it, and so does the one at 96 %; of 130 only the first."""
    source = Source(scores([1.0] * 132 + [0.0] * 18))
    verdict = source.decide(AT_LEAST)
    usual = decide(replace(AT_LEAST, early_stop=False, confidence=0.96), source.whole, None, view="adapter")
    assert source.all
    assert (verdict.outcome, verdict.n, verdict.out_of) == (Outcome.PASS, 150, 150)
    assert (verdict.low, verdict.high, verdict.confidence) == (usual.low, usual.high, 0.95)
    assert verdict.reason == (
        f"{usual.reason} Not decided early, so all 150 examples were used, at the 96 % confidence that is left."
    )
    # Between 95 and 96 % lies what stopping early costs.
    dear = Source(scores([1.0] * 130 + [0.0] * 20))
    plain = decide(replace(AT_LEAST, early_stop=False), dear.whole, None, view="adapter")
    assert (plain.outcome, dear.decide(AT_LEAST).outcome) == (Outcome.PASS, Outcome.INCONCLUSIVE)


def test_a_fail_on_all_examples_has_the_rest_of_the_error() -> None:
    source = Source(scores([1.0] * 85 + [0.0] * 35))
    verdict = source.decide(AT_LEAST)
    usual = decide(replace(AT_LEAST, early_stop=False, confidence=0.96), source.whole, None, view="adapter")
    assert (verdict.outcome, verdict.n) == (Outcome.FAIL, 120)
    assert usual.p_value is not None
    assert verdict.p_value == pytest.approx(usual.p_value / 0.8)


def test_two_thresholds_are_met_together_and_missed_by_one() -> None:
    between = rule_from(at_least=0.2, at_most=0.8, early_stop=True)
    even = Source(scores([1.0, 0.0] * 150)).decide(between)
    assert even.outcome is Outcome.PASS
    assert even.n < 150
    assert even.low is not None
    assert even.high is not None
    assert 0.2 < even.low < even.high < 0.8
    right = Source(scores([1.0] * 300)).decide(between)
    assert (right.outcome, right.threshold) == (Outcome.FAIL, 0.8)
    assert right.n < even.n
    assert Source(scores([0.0] * 300)).decide(between).outcome is Outcome.FAIL


def test_examples_of_a_group_are_asked_together() -> None:
    groups = tuple(f"g{k // 5}" for k in range(300))
    source = Source(scores([1.0] * 300, groups=groups))
    verdict = source.decide(AT_LEAST)
    assert (verdict.outcome, verdict.n % 5, len(source.asked) % 5) == (Outcome.PASS, 0, 0)
    assert verdict.n == stop_early(source.whole, None, 0.8, share=0.2).used
    alone = Source(scores([1.0] * 300)).decide(AT_LEAST)
    assert alone.n < verdict.n < 300


def test_the_order_is_drawn_from_the_seed() -> None:
    first, again, other = Source(scores([1.0] * 99)), Source(scores([1.0] * 99)), Source(scores([1.0] * 99))
    first.decide(AT_LEAST)
    again.decide(AT_LEAST)
    other.decide(AT_LEAST, seed=1)
    assert first.asked == again.asked
    assert first.asked[:5] != other.asked[:5]
    assert first.asked[0] == f"t-{drawn_units(None, 99, seed=0)[0][0]}"


def test_a_bar_that_the_mean_contradicts_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bets weigh examples by their stakes, so in rare orders they decide against what the mean then shows."""
    monkeypatch.setattr(UnitTest, "decision", property(lambda test: "above" if test.target == 0.8 else None))
    verdict = Source(scores([0.0] * 40)).decide(AT_LEAST)
    assert (verdict.outcome, verdict.n) == (Outcome.FAIL, 40)


# ---- What is missing


def test_an_example_without_a_score_among_those_asked_is_incomplete() -> None:
    whole = scores([1.0] * 99)
    first = f"t-{drawn_units(None, 99, seed=0)[0][0]}"
    kept = restricted(whole, frozenset(whole.ids) - {first})
    source = Source(replace(kept, n_expected=99, unscored={first: "the judge gave no grade"}))
    verdict = decide_early(AT_LEAST, whole.ids, None, source, measure="m", view="adapter", bounds=(0.0, 1.0))
    assert (verdict.outcome, verdict.n, verdict.out_of) == (Outcome.INCOMPLETE, 0, 99)
    assert verdict.reason == (
        "Not decided: generation.exact_match of adapter: 1 of 16 examples have no score, first "
        f"{first}: the judge gave no grade."
    )


def test_a_missing_score_that_was_not_needed_is_none() -> None:
    whole = scores([1.0] * 99)
    last = f"t-{drawn_units(None, 99, seed=0)[-1][0]}"
    kept = restricted(whole, frozenset(whole.ids) - {last})
    source = Source(replace(kept, n_expected=99, unscored={last: "the judge gave no grade"}))
    verdict = decide_early(AT_LEAST, whole.ids, None, source, measure="m", view="adapter", bounds=(0.0, 1.0))
    assert verdict.outcome is Outcome.PASS


def test_other_examples_than_asked_are_no_evidence() -> None:
    part = scores([1.0] * 16)
    ids = [f"x-{k}" for k in range(99)]
    verdict = decide_early(AT_LEAST, ids, None, lambda _: (part, None), measure="m", view="adapter", bounds=(0, 1))
    assert (verdict.outcome, verdict.n) == (Outcome.INCOMPLETE, 0)
    assert verdict.reason == "Not decided: adapter was scored on other examples than asked."


def test_a_baseline_on_other_examples_is_no_evidence() -> None:
    ours, theirs = scores([1.0] * 16), scores([0.0] * 16, "base", ids=tuple(f"x-{k}" for k in range(16)))
    options = {"measure": "m", "view": "adapter", "bounds": (0.0, 1.0)}
    verdict = decide_early(GAIN, ours.ids, None, lambda _: (ours, theirs), **options)
    assert (verdict.outcome, verdict.n) == (Outcome.INCOMPLETE, 0)
    assert "adapter and base were not scored on the same examples: 16 examples only in adapter" in verdict.reason


def test_the_declared_number_is_that_of_the_whole_test_set() -> None:
    rule = rule_from(at_least=0.8, early_stop=True, n=200)
    assert Source(scores([1.0] * 200)).decide(rule).outcome is Outcome.PASS
    short = Source(scores([1.0] * 150))
    verdict = short.decide(rule)
    assert (verdict.outcome, short.asked) == (Outcome.INCOMPLETE, [])
    assert "declares n=200 and the test set has 150 examples" in verdict.reason
    empty = decide_early(AT_LEAST, (), None, short, measure="m", view="adapter", bounds=(0.0, 1.0))
    assert (empty.outcome, empty.reason) == (Outcome.INCOMPLETE, "Not decided: there is no example.")


def test_only_means_stop_early() -> None:
    labels = ("a", "b")
    truth = ("a", "b") * 40
    macro = scores([1.0] * 80, statistic="macro_f1", truth=truth, predicted=truth, labels=labels)
    with pytest.raises(GateError, match="only a mean of examples can stop early, not macro_f1"):
        Source(macro).decide(AT_LEAST)


# ---- The rule


def test_a_rule_that_stops_early_is_decided_with_confidence() -> None:
    assert rule_from(at_least=0.8, early_stop=True).decide == "confident"
    assert rule_from(at_least=0.8, early_stop=True, decide="point").decide == "confident"
    assert rule_from(at_least=0.8).decide == "point"
    assert rule_from(compared_with="base", max_drop=0.1, early_stop=True, decide="point").decide == "confident"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"at_least": 0.8, "early_stop": "yes"}, "early_stop must be True or False, got 'yes'."),
        ({"at_least": 0.8, "early_stop": 1}, "early_stop must be True or False, got 1."),
        (
            {"at_least": 0.8, "must_pass": ["t-1"], "early_stop": True},
            "must_pass names examples that early_stop may leave out. Write two gates, one with each.",
        ),
        (
            {"at_least": 1.0, "early_stop": True},
            "at_least=1 is the end of the scale, which no part of the examples can show. Leave early_stop out.",
        ),
        ({"at_most": 0.0, "early_stop": True}, "at_most=0 is the end of the scale"),
        (
            {"at_least": 3.0, "early_stop": True, "bounds": (0.0, float("inf"))},
            "early_stop needs a lowest and a highest value that an example can have, and the measure goes from 0 to",
        ),
        ({"early_stop": True}, "the gate has no rule"),
    ],
)
def test_what_cannot_stop_early_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(GateError) as caught:
        rule_from(**asked)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_slices_cannot_stop_early() -> None:
    sliced = scores([1.0] * 60, slices={"plan": ("free", "pro") * 30})
    with pytest.raises(GateError, match="early_stop is for the whole test set"):
        decide_slices(AT_LEAST, sliced, None, view="adapter", slices="plan")


def test_a_plan_counts_on_what_stopping_early_leaves() -> None:
    rule = rule_from(compared_with="base", max_drop=0.05)
    pair = scores([0.0] * 150), scores([0.0] * 150, "base")
    early = plan_gate(replace(rule, early_stop=True), *pair, measured=False)
    dearer = plan_gate(replace(rule, confidence=0.96), *pair, measured=False)
    plain = plan_gate(rule, *pair, measured=False)
    assert (early.smallest, early.needed, early.power) == (dearer.smallest, dearer.needed, dearer.power)
    assert early.smallest is not None
    assert plain.smallest is not None
    assert early.smallest > plain.smallest
    assert early.confidence == 0.95
    assert early.note == "planned at the 96 % confidence that stopping early leaves for all examples"


# ---- How often it is wrong


@pytest.mark.parametrize("grouped", [False, True])
def test_it_errs_no_more_than_allowed_and_saves_where_the_matter_is_clear(grouped: bool) -> None:
    """At the bar, 200 runs of 60, or of 60 pairs: passes and fails in at most 2.5 %, and two standard errors.

    Comparisons: tests/unit/statistics/test_error_rates.py.
    """
    n = 120 if grouped else 60
    rng = np.random.default_rng(7)
    counts = {Outcome.PASS: 0, Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 0, Outcome.INCOMPLETE: 0}
    used = 0
    for run in range(200):
        groups = tuple(f"g{k // 2}" for k in range(n)) if grouped else None
        at_bar = rng.random(60).repeat(n // 60) < 0.8
        counts[Source(scores(at_bar, groups=groups)).decide(AT_LEAST, seed=run).outcome] += 1
        used += Source(scores(rng.random(n) < 0.99, groups=groups)).decide(AT_LEAST, seed=run).n
    assert counts[Outcome.INCOMPLETE] == 0
    assert counts[Outcome.PASS] <= 200 * 0.047
    assert counts[Outcome.FAIL] <= 200 * 0.047
    assert used < 0.8 * 200 * n


def test_nobody_may_look_without_betting() -> None:
    """What the test above would see: the usual interval, looked at every 16 examples, passes far more often."""
    rng = np.random.default_rng(7)
    plain = replace(AT_LEAST, early_stop=False, confidence=0.9)
    wrong = 0
    for _ in range(100):
        values = scores(rng.random(160) < 0.8)
        looks = [restricted(values, frozenset(values.ids[:k])) for k in range(16, 161, 16)]
        wrong += any(decide(plain, part, None, view="adapter").outcome is not Outcome.INCONCLUSIVE for part in looks)
    assert wrong > 100 * 0.15
