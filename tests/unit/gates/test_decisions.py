from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import harness.statistics
from harness.errors import GateError
from harness.gates import decide, overall, rule_from
from harness.records import Estimate, Outcome, Rule, Scores


def scores(values, view="adapter", **fields):
    ids = tuple(f"e{i}" for i in range(len(values)))
    fields = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **fields)


def ones(successes, n, view="adapter", **fields):
    return scores([1] * successes + [0] * (n - successes), view, **fields)


def verdict_of(given, baseline=None, **rule):
    return decide(rule_from(measure="m.score", **rule), given, baseline, view="adapter")


@pytest.mark.parametrize(
    ("right", "arguments", "outcome"),
    [
        # 90 of 100: Wilson 0.826 to 0.945 (scipy).
        (90, {"at_least": 0.9}, "pass"),
        (89, {"at_least": 0.9}, "fail"),
        (90, {"at_most": 0.9}, "pass"),
        (91, {"at_most": 0.9}, "fail"),
        (90, {"at_least": 0.8, "at_most": 0.95}, "pass"),
        (96, {"at_least": 0.8, "at_most": 0.95}, "fail"),
        (90, {"at_least": 0.82, "decide": "confident"}, "pass"),
        (90, {"at_least": 0.83, "decide": "confident"}, "inconclusive"),
        (90, {"at_least": 0.94, "decide": "confident"}, "inconclusive"),
        (90, {"at_least": 0.95, "decide": "confident"}, "fail"),
        (90, {"at_most": 0.95, "decide": "confident"}, "pass"),
        (90, {"at_most": 0.94, "decide": "confident"}, "inconclusive"),
        (90, {"at_most": 0.82, "decide": "confident"}, "fail"),
        (90, {"at_least": 0.8, "at_most": 0.95, "decide": "confident"}, "pass"),
        (90, {"at_least": 0.8, "at_most": 0.94, "decide": "confident"}, "inconclusive"),
        (90, {"at_least": 0.83, "at_most": 0.95, "decide": "confident"}, "inconclusive"),
        (90, {"at_least": 0.95, "at_most": 0.99, "decide": "confident"}, "fail"),
        # The interval of 100 of 100 ends at 1 and is not above it.
        (100, {"at_least": 1.0, "decide": "confident"}, "inconclusive"),
        (100, {"at_least": 0.96, "decide": "confident"}, "pass"),
    ],
)
def test_thresholds(right, arguments, outcome):
    verdict = verdict_of(ones(right, 100), **arguments)
    assert verdict.outcome == outcome
    assert verdict.value == right / 100
    assert verdict.low < verdict.high
    assert verdict.threshold in (arguments.get("at_least"), arguments.get("at_most"))
    assert (verdict.n, verdict.margin, verdict.difference) == (100, None, None)
    assert verdict.method.endswith(", 95 % interval")


def test_a_point_verdict_says_when_the_interval_straddles():
    verdict = verdict_of(ones(93, 100), at_least=0.9)
    # Wilson 0.8625 to 0.9657; 100 * ((0.93 - 0.8625) / 0.03)^2 = 506, so 406 more: two digits, rounded up.
    assert verdict.reason == (
        "0.930 [0.863, 0.966] on 100 examples is at least 0.900. The interval straddles 0.900: another "
        "sample of this size could fail; about 410 more like them are needed to be 95 % confident."
    )
    clear = verdict_of(ones(93, 100), at_least=0.5)
    assert clear.reason == "0.930 [0.863, 0.966] on 100 examples is at least 0.500."
    fails = verdict_of(ones(88, 100), at_least=0.9)
    assert "is not at least 0.900" in fails.reason
    assert "could pass" in fails.reason


def test_inconclusive_says_what_would_decide():
    verdict = verdict_of(ones(93, 100), at_least=0.9, decide="confident")
    assert verdict.reason == (
        "0.930 [0.863, 0.966] on 100 examples: the interval straddles 0.900, so 100 examples cannot tell; "
        "about 410 more like them are needed to decide."
    )
    # Towards failing it is the other end that has to clear: 0.88 [0.802, 0.930], (0.050 / 0.02)^2 = 6.25.
    towards_fail = verdict_of(ones(88, 100), at_least=0.9, decide="confident")
    assert "about 530 more" in towards_fail.reason
    on_it = verdict_of(ones(90, 100), at_least=0.9, decide="confident")
    assert "too close to 0.900 for any affordable number" in on_it.reason


def pairs(wins, losses, n):
    """Candidate and baseline, both right elsewhere."""
    candidate = [1] * wins + [0] * losses + [1] * (n - wins - losses)
    baseline = [0] * wins + [1] * losses + [1] * (n - wins - losses)
    return scores(candidate), scores(baseline, "base")


@pytest.mark.parametrize(
    ("wins", "losses", "arguments", "outcome"),
    [
        # n = 200. Tango's 90 % intervals, one-sided 95 % at each end.
        (0, 0, {"max_drop": 0.02}, "pass"),  # -0.013 to 0.013
        (0, 0, {"max_drop": 0.01}, "inconclusive"),
        (0, 0, {"min_gain": 0.02}, "fail"),
        (5, 6, {"max_drop": 0.05}, "pass"),  # -0.035 to 0.025
        (5, 6, {"max_drop": 0.02}, "inconclusive"),
        (5, 40, {"max_drop": 0.05}, "fail"),  # -0.225 to -0.124
        (40, 5, {"min_gain": 0.1}, "pass"),
        (40, 5, {"min_gain": 0.2}, "inconclusive"),
        (40, 5, {"min_gain": 0.3}, "fail"),
        (0, 10, {"max_drop": 0.05, "decide": "point"}, "pass"),
        (0, 11, {"max_drop": 0.05, "decide": "point"}, "fail"),
        (10, 0, {"min_gain": 0.05, "decide": "point"}, "pass"),
        (9, 0, {"min_gain": 0.05, "decide": "point"}, "fail"),
        # The base's own answers are no gain, whatever is asked.
        (0, 0, {"min_gain": 0, "decide": "point"}, "fail"),
        (0, 0, {"min_gain": 0}, "inconclusive"),
        (0, 0, {"max_drop": 0, "decide": "point"}, "pass"),
    ],
)
def test_comparisons(wins, losses, arguments, outcome):
    verdict = verdict_of(*pairs(wins, losses, 200), compared_with="base", **arguments)
    assert verdict.outcome == outcome
    assert verdict.difference == pytest.approx((wins - losses) / 200)
    assert verdict.difference_low < verdict.difference < verdict.difference_high
    assert verdict.baseline == pytest.approx((200 - wins) / 200)
    assert verdict.value == pytest.approx((200 - losses) / 200)
    assert verdict.margin == arguments.get("max_drop", arguments.get("min_gain"))
    assert (verdict.compared_with, verdict.threshold) == ("base", None)
    assert "90 % interval (one-sided 95 %)" in verdict.method
    assert "McNemar" in verdict.method


def test_the_interval_shown_is_the_one_that_decides():
    candidate, baseline = pairs(5, 6, 200)
    verdict = verdict_of(candidate, baseline, compared_with="base", max_drop=0.05, confidence=0.975)
    shown = harness.statistics.difference(candidate, baseline, confidence=0.95)
    assert (verdict.difference_low, verdict.difference_high) == (shown.low, shown.high)
    assert "95 % interval (one-sided 97.5 %)" in verdict.method
    # Just above and just below the lower end.
    for margin, outcome in ((-shown.low + 1e-6, "pass"), (-shown.low - 1e-6, "inconclusive")):
        rule = {"compared_with": "base", "max_drop": margin, "confidence": 0.975}
        assert verdict_of(candidate, baseline, **rule).outcome == outcome


def test_an_inconclusive_comparison_names_examples_and_margin():
    candidate, baseline = pairs(5, 6, 200)
    verdict = verdict_of(candidate, baseline, compared_with="base", max_drop=0.02)
    assert re.fullmatch(
        r"0\.970 against 0\.975 of base on 200 examples: difference -0\.005 \[-0\.035, \+0\.025\] straddles "
        r"-0\.020, so 200 examples cannot tell; about 630 more like them are needed to decide\. With "
        r"max_drop=0\.036 these examples would pass, but a margin is chosen before looking\.",
        verdict.reason,
    )
    told = {"compared_with": "base", "max_drop": 0.036}
    assert verdict_of(candidate, baseline, **told).outcome == "pass"
    gain = verdict_of(*pairs(40, 5, 200), compared_with="base", min_gain=0.2)
    margin = float(re.search(r"min_gain=(0\.\d{3})", gain.reason)[1])
    assert verdict_of(*pairs(40, 5, 200), compared_with="base", min_gain=margin).outcome == "pass"
    # No gain that would pass where even no gain is possible.
    assert "min_gain=" not in verdict_of(*pairs(5, 6, 200), compared_with="base", min_gain=0.01).reason


def test_float_noise_at_the_threshold_does_not_fail():
    # The mean of 0.1, 0.2 and 0.3 in floating point can be off by a rounding.
    assert verdict_of(scores([0.1, 0.2, 0.3] * 10), at_least=0.2).outcome == "pass"
    assert verdict_of(scores([0.1, 0.2, 0.3] * 10), at_most=0.2).outcome == "pass"
    candidate, baseline = scores([0.85, 0.8] * 10), scores([0.9, 0.85] * 10, "base")
    rule = {"compared_with": "base", "max_drop": 0.05, "decide": "point"}
    assert verdict_of(candidate, baseline, **rule).outcome == "pass"


BROKEN = [
    (scores([]), "adapter: no example was scored"),
    (replace(ones(9, 10), n_expected=11), "10 examples scored where 11 were expected"),
    (scores([1, math.nan, 0]), "the score of e1 is nan"),
    (replace(ones(9, 10), unscored={"e3": "the judge refused"}), "first e3: the judge refused"),
    (replace(ones(9, 10), ids=("e0",) * 10), "scored twice"),
    (scores([0, 1, 7]), "the score of e2 is 7, outside 0 to 1"),
]


@pytest.mark.parametrize(("given", "message"), BROKEN)
@pytest.mark.parametrize("decided", ["point", "confident"])
def test_missing_and_broken_scores_are_incomplete(given, message, decided):
    verdict = verdict_of(given, at_least=0.0, decide=decided)
    assert verdict.outcome == "incomplete"
    assert verdict.reason.startswith("Not decided: ")
    assert message in verdict.reason
    assert (verdict.value, verdict.low, verdict.high) == (None, None, None)
    assert verdict.rule == "at least 0.000"


@pytest.mark.parametrize(("given", "message"), BROKEN)
def test_a_broken_baseline_is_incomplete(given, message):
    baseline = replace(given, view="base")
    candidate = scores([1] * max(1, given.n_expected))
    verdict = verdict_of(candidate, baseline, compared_with="base", max_drop=0.9)
    assert verdict.outcome == "incomplete"
    assert message.removeprefix("adapter: ") in verdict.reason


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (None, "there are no scores of base to compare with"),
        (ones(9, 11, "base"), "10 examples of adapter and 11 of base"),
        (replace(ones(9, 10, "base"), ids=tuple("abcdefghij")), "not scored on the same examples"),
        (replace(ones(9, 10, "base"), measure="m.other"), "different measures"),
    ],
)
def test_a_baseline_that_does_not_fit_is_incomplete(baseline, message):
    verdict = verdict_of(ones(9, 10), baseline, compared_with="base", max_drop=0.9)
    assert verdict.outcome == "incomplete"
    assert message in verdict.reason
    assert verdict.difference is None


def test_no_interval_is_incomplete_even_where_the_value_clears(monkeypatch):
    unbounded = (0.0, math.inf)
    verdict = verdict_of(scores([3, 3], bounds=unbounded), at_least=1, bounds=unbounded)
    assert verdict.outcome == "incomplete"
    assert "all values are equal" in verdict.reason
    endless = Estimate(0.9, -math.inf, math.inf, 10, "nothing")
    monkeypatch.setattr(harness.statistics, "estimate", lambda *_, **__: endless, raising=False)
    assert verdict_of(ones(9, 10), at_least=0.5).outcome == "incomplete"
    paired = verdict_of(*pairs(5, 0, 10), compared_with="base", max_drop=0.5)
    assert paired.outcome == "incomplete"
    assert "is not finite" in paired.reason


@pytest.mark.parametrize(
    ("rule", "given", "baseline", "message"),
    [
        (Rule(at_least=math.nan), ones(9, 10), None, "finite number, got nan"),
        (Rule(), ones(9, 10), None, "no rule"),
        (Rule(at_least=90.0), ones(9, 10), None, "outside what the measure can be"),
        (Rule(compared_with="base", max_drop=math.nan), *pairs(1, 1, 10), "finite number"),
        (Rule(at_least=0.9), ones(9, 10, "base"), None, "scores are of base, the gate is on adapter"),
        (
            Rule(compared_with="prompted_base", max_drop=0.1),
            *pairs(1, 1, 10),
            "baseline's scores are of base",
        ),
    ],
)
def test_a_rule_that_bypassed_rule_from_is_checked_again(rule, given, baseline, message):
    with pytest.raises(GateError, match=message):
        decide(rule, given, baseline, view="adapter")


def test_a_confusion_statistic_is_bounded_by_0_and_1_whatever_its_examples_are():
    given = replace(
        ones(30, 40),
        statistic="f1:a",
        truth=tuple("ab" * 20),
        predicted=tuple("aabb" * 10),
        labels=("a", "b"),
        bounds=(0.0, 10.0),
    )
    verdict = decide(Rule(at_least=0.4), given, None, view="adapter")
    assert verdict.outcome == "pass"
    assert "mapped to F1" in verdict.method
    with pytest.raises(GateError, match="at_least=2 is outside"):
        decide(Rule(at_least=2.0), given, None, view="adapter")


def test_notes_of_both_views_are_kept_once():
    given, baseline = pairs(5, 6, 200)
    note = "the judge is a stand-in"
    verdict = verdict_of(replace(given, note=note), replace(baseline, note=note), compared_with="base", max_drop=0.1)
    assert verdict.note == note


def test_the_same_scores_and_seed_give_the_same_verdict():
    rng = np.random.default_rng(0)
    truth = tuple("abc" * 40)
    guesses = tuple(label if rng.random() < 0.8 else "a" for label in truth)
    given = scores([float(a == b) for a, b in zip(truth, guesses, strict=True)])
    given = replace(given, statistic="macro_f1", truth=truth, predicted=guesses, labels=("a", "b", "c"))
    rule = rule_from(at_least=0.75, decide="confident")
    assert decide(rule, given, None, view="adapter", seed=3) == decide(rule, given, None, view="adapter", seed=3)
    assert decide(rule, given, None, view="adapter", seed=3) != decide(rule, given, None, view="adapter", seed=4)


P, F, U, N = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INCOMPLETE


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [([], N), ([P], P), ([P, P], P), ([P, U], U), ([U, N, P], N), ([N, F, U, P], F), ([F], F), ([N], N)],
)
def test_overall_is_the_worst(outcomes, expected):
    assert overall(outcomes) is expected
    assert overall(iter(reversed(outcomes))) is expected


def test_a_gate_lets_a_drop_at_its_margin_pass_in_at_most_one_run_of_twenty():
    # n = 150, the candidate loses 8 % and wins 3 %: a drop of exactly the margin.
    rng = np.random.default_rng(1)
    rule = rule_from(compared_with="base", max_drop=0.05)
    outcomes = []
    for _ in range(400):
        chance = rng.random(150)
        baseline = (chance > 0.13).astype(float)
        candidate = np.where(chance < 0.03, 1.0, np.where(chance > 0.92, 0.0, baseline))
        verdict = decide(rule, scores(candidate), scores(baseline, "base"), view="adapter")
        outcomes.append(verdict.outcome)
    # Three standard errors of 400 runs: 0.033. Failing at the margin is as wrong, and as rare.
    assert outcomes.count("pass") / 400 <= 0.05 + 0.033
    assert outcomes.count("fail") / 400 <= 0.05 + 0.033
    assert outcomes.count("pass") > 0
    assert outcomes.count("incomplete") == 0


def test_a_confident_threshold_passes_a_model_at_it_rarely():
    rng = np.random.default_rng(2)
    rule = rule_from(at_least=0.9, decide="confident")
    passed = sum(
        decide(rule, scores((rng.random(150) < 0.9).astype(float)), None, view="adapter").outcome == "pass"
        for _ in range(400)
    )
    assert passed / 400 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400)
