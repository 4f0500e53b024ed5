"""The fails of a recipe read together: which of them chance alone hardly explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.records import Outcome, RuleKind, Verdict

__all__ = ["name_fails"]

_LEVEL = 0.05


def name_fails(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts of one recipe, in their order, each fail with `after_holm`; no outcome changes.

    A pass of all needs no correction: each gate at its level keeps the whole at that level (an intersection-union
    test, Berger 1982). Fails add up instead, so they are corrected over all gates of the recipe that chance plays a
    part in. Gates that did not fail take part in the count alone: their evidence of a fail is weaker than any that is
    named. A fail by a named example is no matter of chance, and stands. With a single gate there is nothing to correct.
    """
    counted = [k for k, verdict in enumerate(verdicts) if verdict.kind is not RuleKind.MUST_PASS]
    failed = [k for k, verdict in enumerate(verdicts) if verdict.outcome is Outcome.FAIL]
    if not failed or len(verdicts) < 2:
        return tuple(replace(verdict, after_holm=None) for verdict in verdicts)
    # Loads scipy, which a run without a fail may not need.
    from harness.statistics import holm

    # Each gate is corrected at its own level: its p-value is taken as a multiple of it.
    weights = [_multiple_of_level(verdicts[k]) for k in counted]
    stands = dict(zip(counted, holm([weight * _LEVEL for weight in weights], _LEVEL), strict=True))
    return tuple(
        replace(verdict, after_holm=(bool(verdict.must_pass_failed) or stands.get(k, True)) if k in failed else None)
        for k, verdict in enumerate(verdicts)
    )


def _multiple_of_level(verdict: Verdict) -> float:
    """The p-value of a fail by the error that its gate allows; 1 / _LEVEL at most, for none."""
    if verdict.outcome is not Outcome.FAIL or verdict.p_value is None or verdict.confidence is None:
        return 1 / _LEVEL
    return min(verdict.p_value / (1 - verdict.confidence), 1 / _LEVEL)
