"""Deciding a rule while its examples are asked, a few at a time in random order, and stopping when it is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from harness.errors import GateError, StatisticsError
from harness.gates.decisions import Estimates, decide, other_number, unmeasured
from harness.gates.rules import SHARE
from harness.records import Estimate, Outcome, Rule, RuleKind, Scores, Verdict

__all__ = ["Take", "decide_early"]

# An example or the examples of a group.
_Unit = tuple[int, ...]

Take = Callable[[Sequence[str] | None], tuple[Scores, Scores | None]]
"""The scores of these examples, or of all for None, on the view and on the one that the rule compares with."""

_Side = Literal["above", "below"]
# Where the truth lies if a bar is missed.
_WRONG: Mapping[str, _Side] = {"at_least": "below", "at_most": "above"}
_NOTHING: Mapping[str, str] = MappingProxyType({})
# Examples asked at once: this many, or this part of all where that is more. It costs or saves a few answers and
# changes no verdict.
_AT_ONCE = 16
_CHUNKS = 16
_METHOD = "betting, holds whenever one stops"


def decide_early(
    rule: Rule,
    ids: Sequence[str],
    groups: Sequence[str] | None,
    take: Take,
    *,
    measure: str,
    view: str,
    bounds: tuple[float, float],
    seed: int = 0,
    texts: Mapping[str, str] = _NOTHING,
) -> Verdict:
    """The verdict of a rule with early_stop, for which no more examples are taken than it needs.

    ids, groups: (n,) of all examples; those of a group are taken together. measure, bounds: of what is taken.
    seed: of the order, and as in `decide`; it must not be chosen after looking. texts: as in `decide`.

    A fifth of the error that the rule is allowed is spent on stopping early: bets that are right as often
    whenever one looks (see statistics.UnitTest). What they do not decide is decided on all examples as usual, at
    the confidence that is left, so that both together err no more often than the rule without early_stop.
    Of a verdict that stopped, value, difference and intervals are those of the examples up to there; what was
    taken together with the last of them is not looked at, but for being whole. Raises GateError as `decide` does,
    and for scores that are no mean of examples.
    """
    from harness import statistics
    from harness.statistics.scored import paired

    total = len(ids)
    (undecided,) = unmeasured(rule, measure=measure, view=view, bounds=bounds, reason="")
    undecided = replace(undecided, out_of=total)
    problem = other_number(rule, total) or (None if total else "Not decided: there is no example.")
    if problem is not None:
        return replace(undecided, reason=problem)
    units = statistics.drawn_units(groups, total, seed=seed)
    bets = _Bets(rule, [len(unit) for unit in units], bounds)
    for chunk in _chunks(units, total):
        asked = [ids[index] for unit in chunk for index in unit]
        scores, baseline = take(asked)
        if scores.statistic != "mean":
            raise GateError(f"{measure}: only a mean of examples can stop early, not {scores.statistic}.")
        try:
            found = dict(zip(scores.ids, paired(scores, baseline)[0].tolist(), strict=True))
        except StatisticsError as error:
            return replace(undecided, reason=f"Not decided: {str(error).rstrip('.')}.", n=bets.n)
        if found.keys() != set(asked):
            return replace(undecided, reason=f"Not decided: {view} was scored on other examples than asked.", n=bets.n)
        for unit in chunk:
            bets.add([found[ids[index]] for index in unit])
            if bets.settled:
                used = [ids[index] for one in units[: len(bets.seen)] for index in one]
                return _stopped(rule, bets, used, take, view=view, total=total, texts=texts)
    return _whole(rule, take, view=view, total=total, seed=seed, texts=texts)


class _Bets:
    """The bets on a rule's bars, and the units that they were made on.

    sizes: examples of each unit there is. bounds: of the measure. seen: values of the units looked at, of n examples.
    """

    def __init__(self, rule: Rule, sizes: Sequence[int], bounds: tuple[float, float]) -> None:
        from harness import statistics

        compares = rule.kind is not RuleKind.THRESHOLD
        width = bounds[1] - bounds[0]
        self.sizes = sizes
        self.ends = (-width, width) if compares else bounds
        self.confidence, _ = statistics.spending(rule.confidence, SHARE, two_sided=not compares)
        self.seen: list[list[float]] = []
        self.n = 0
        self._sum = 0.0
        self._tests = {
            name: statistics.UnitTest(target, sizes=sizes, bounds=self.ends, confidence=self.confidence)
            for name, target in _targets(rule).items()
        }

    def add(self, unit: list[float]) -> None:
        """unit: the values of an example, or of those of a group."""
        self.seen.append(unit)
        self.n += len(unit)
        self._sum += math.fsum(unit)
        for test in self._tests.values():
            test.add([unit])

    @property
    def settled(self) -> bool:
        """One bar missed is a fail, all of them met is a pass."""
        return bool(self._missed()) or len(self._sides()) == len(self._tests)

    @property
    def estimate(self) -> Estimate:
        """Of the mean, with an interval that is clear of the bars that are decided."""
        rejected = [(self._tests[name].target, side) for name, side in self._sides().items()]
        return _estimate(self.seen, self.sizes, self.ends, self.confidence, rejected)

    @property
    def p_of_fail(self) -> float:
        """The evidence of a fail, at all the error that the rule is allowed: of that, bets have only a share."""
        return min(1.0, min(self._tests[name].p_value(_WRONG[name]) for name in self._missed()) / SHARE)

    def _sides(self) -> dict[str, _Side]:
        """Which bars are decided, and on which side of each the truth is.

        One that the mean of what was seen contradicts waits: a verdict beside a value that says otherwise helps nobody.
        """
        mean = self._sum / self.n
        return {
            name: test.decision
            for name, test in self._tests.items()
            if test.decision is not None and test.decision == ("above" if mean > test.target else "below")
        }

    def _missed(self) -> list[str]:
        return [name for name, side in self._sides().items() if side == _WRONG[name]]


def _targets(rule: Rule) -> dict[str, float]:
    """Where the truth must lie above, under "at_least", or below, under "at_most"."""
    if rule.max_drop is not None:
        return {"at_least": -rule.max_drop}
    if rule.min_gain is not None:
        return {"at_least": rule.min_gain}
    targets = {"at_least": rule.at_least, "at_most": rule.at_most}
    return {name: target for name, target in targets.items() if target is not None}


def _chunks(units: Sequence[_Unit], total: int) -> Iterator[list[_Unit]]:
    size = max(_AT_ONCE, math.ceil(total / _CHUNKS))
    chunk: list[_Unit] = []
    for unit in units:
        chunk.append(unit)
        if sum(map(len, chunk)) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _stopped(
    rule: Rule, bets: _Bets, used: Sequence[str], take: Take, *, view: str, total: int, texts: Mapping[str, str]
) -> Verdict:
    """The verdict on the examples used."""
    scores, baseline = take(used)
    estimates = Estimates(bets.estimate, None)
    if baseline is not None:
        value_of = dict(zip(scores.ids, scores.values, strict=True))
        ids = iter(used)
        units = [[value_of[next(ids)] for _ in unit] for unit in bets.seen]
        value = _estimate(units, bets.sizes, scores.bounds, (1 + rule.confidence) / 2)
        estimates = Estimates(value, bets.estimate)
    verdict = decide(replace(rule, n=None), scores, baseline, view=view, texts=texts, estimates=estimates)
    if verdict.outcome is Outcome.FAIL:
        verdict = replace(verdict, p_value=bets.p_of_fail)
    enough = f"Stopped early: {len(used)} of {total} examples were enough."
    return replace(verdict, reason=f"{verdict.reason} {enough}", out_of=total, asked=rule)


def _estimate(
    units: Sequence[Sequence[float]],
    sizes: Sequence[int],
    bounds: tuple[float, float],
    confidence: float,
    rejected: Sequence[tuple[float, _Side]] = (),
) -> Estimate:
    """confidence: of each end."""
    from harness.statistics import betting_interval

    low, high = betting_interval(units, sizes=sizes, bounds=bounds, confidence=confidence, rejected=rejected)
    return Estimate(_mean(units), low, high, sum(map(len, units)), _METHOD, 2 * confidence - 1)


def _mean(units: Sequence[Sequence[float]]) -> float:
    return math.fsum(value for unit in units for value in unit) / sum(map(len, units))


def _whole(rule: Rule, take: Take, *, view: str, total: int, seed: int, texts: Mapping[str, str]) -> Verdict:
    """The verdict on all examples, at the confidence that is left."""
    from harness import statistics

    scores, baseline = take(None)
    _, left = statistics.spending(rule.confidence, SHARE, two_sided=rule.kind is RuleKind.THRESHOLD)
    assert left is not None  # as SHARE is below 1
    verdict = decide(replace(rule, confidence=left), scores, baseline, view=view, seed=seed, texts=texts)
    verdict = replace(verdict, out_of=total, confidence=rule.confidence, asked=rule)
    if verdict.p_value is not None:
        verdict = replace(verdict, p_value=min(1.0, verdict.p_value / (1 - SHARE)))
    if verdict.value is None:
        return verdict
    used = f"Not decided early, so all {total} examples were used, at the {100 * left:.4g} % confidence that is left."
    return replace(verdict, reason=f"{verdict.reason} {used}")
