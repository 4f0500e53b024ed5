from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.gates import decide, name_fails, rule_from
from harness.records import Outcome, Rule, RuleKind, Scores, Verdict


def verdict(outcome: Outcome = Outcome.PASS, p: float | None = None, confidence: float = 0.95) -> Verdict:
    return Verdict("m", "adapter", "at least 0.5", outcome, "", 100, p_value=p, confidence=confidence)


def marks(*verdicts: Verdict) -> list[bool | None]:
    named = name_fails(verdicts)
    assert [replace(one, after_holm=None) for one in named] == list(verdicts)
    return [one.after_holm for one in named]


FAIL, PASS = Outcome.FAIL, Outcome.PASS


def test_fails_are_corrected_over_all_gates() -> None:
    """Four gates: the smallest p-value has to be at most 0.05 / 4, the next at most 0.05 / 3."""
    two_passes = (verdict(), verdict(Outcome.INCONCLUSIVE))
    assert marks(verdict(FAIL, 0.0125), verdict(FAIL, 0.016), *two_passes) == [True, True, None, None]
    assert marks(verdict(FAIL, 0.0126), verdict(FAIL, 0.001), *two_passes) == [True, True, None, None]
    assert marks(verdict(FAIL, 0.013), verdict(FAIL, 0.013), *two_passes) == [False, False, None, None]
    assert marks(verdict(FAIL, 0.017), verdict(FAIL, 0.001), *two_passes) == [False, True, None, None]


def test_each_gate_at_its_own_level() -> None:
    """Half of 0.01 and half of 0.1 stand beside another gate; a little more does not."""
    assert marks(verdict(FAIL, 0.0049, 0.99), verdict()) == [True, None]
    assert marks(verdict(FAIL, 0.0051, 0.99), verdict()) == [False, None]
    assert marks(verdict(FAIL, 0.049, 0.9), verdict()) == [True, None]


def test_a_named_example_is_no_matter_of_chance() -> None:
    alone = replace(verdict(FAIL), kind=RuleKind.MUST_PASS, must_pass_failed=("t-1",), confidence=None)
    beside = replace(verdict(FAIL, 0.4), must_pass_failed=("t-1",))
    assert marks(alone, beside, verdict()) == [True, True, None]
    # It does not count among the gates either: 0.024 is below 0.05 / 2.
    assert marks(alone, verdict(FAIL, 0.024), verdict()) == [True, True, None]


def test_nothing_to_correct() -> None:
    assert marks() == []
    assert marks(verdict(FAIL, 0.03)) == [None]
    assert marks(verdict(), verdict(Outcome.INCOMPLETE)) == [None, None]


def test_a_fail_without_a_p_value_does_not_stand() -> None:
    assert marks(verdict(FAIL, None), verdict()) == [False, None]


def scores(values: list[float], view: str = "adapter") -> Scores:
    return Scores("m", view, tuple(map(str, range(len(values)))), tuple(values), len(values))


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        (rule_from(at_least=0.8, decide="confident"), 60),
        (rule_from(at_most=0.2, decide="confident"), 60),
        (rule_from(at_least=0.1, at_most=0.2, decide="confident"), 60),
        (rule_from(compared_with="base", max_drop=0.05), 60),
        (rule_from(compared_with="base", min_gain=0.1), 100),
    ],
)
def test_a_confident_fail_has_a_small_p_value(rule: Rule, right: int) -> None:
    """The base is always right, so each of these is a fail far from its bar; a threshold is two-sided."""
    ours, base = scores([1.0] * right + [0.0] * (100 - right)), scores([1.0] * 100, "base")
    failed = decide(rule, ours, base, view="adapter")
    assert failed.outcome is FAIL
    assert failed.p_value is not None
    assert 0 < failed.p_value < 0.05
    assert failed.confidence == 0.95


def test_a_fail_by_the_estimate_alone_has_a_large_one() -> None:
    """79 of 100 where 80 are asked: the score test has z = 0.25, one-sided p = 0.401."""
    failed = decide(rule_from(at_least=0.8), scores([1.0] * 79 + [0.0] * 21), None, view="adapter")
    assert failed.outcome is FAIL
    assert failed.p_value == pytest.approx(0.401, abs=0.001)
    passed = decide(rule_from(at_least=0.8), scores([1.0] * 80 + [0.0] * 20), None, view="adapter")
    assert passed.p_value is None


def test_wrong_fails_are_rarely_named() -> None:
    """Eight gates exactly at their bars, 400 runs: unadjusted fails are common, named ones at most 5 %.

    With 200 examples and a bar of 0.5, one-sided at 2.5 %, at most 1 - 0.975^8 = 18 % have a fail; Monte Carlo error
    of the 5 % is 1.1 points.
    """
    rng = np.random.default_rng(4)
    rule = rule_from(at_least=0.5, decide="confident")
    known: dict[int, Verdict] = {}
    failed = named = 0
    for _ in range(400):
        verdicts = []
        for right in map(int, rng.binomial(200, 0.5, size=8)):
            if right not in known:
                known[right] = decide(rule, scores([1.0] * right + [0.0] * (200 - right)), None, view="adapter")
            verdicts.append(known[right])
        stands = [one.after_holm for one in name_fails(verdicts)]
        failed += any(one.outcome is FAIL for one in verdicts)
        named += any(stands)
    assert failed / 400 > 0.12
    assert named / 400 <= 0.05 + 2 * 0.011
