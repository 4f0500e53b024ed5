"""Blind comparison: how often a judge prefers a view's answers to another view's, and how much order has to do with it.

Which answer stands first is drawn from a seed, each pair is asked in both orders, and the judge is told neither the
views nor which of the two orders it sees.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from harness.errors import GateError, JudgeError
from harness.measures.aligned import scores_of, texts_of, truncation_note
from harness.measures.measure import Measure
from harness.measures.shown import JudgedPair, question_of
from harness.records import Example, Outputs, Scores

__all__ = ["PairwiseMeasure", "Prefer", "win_rate"]

WIN, TIE, LOSS = 1.0, 0.5, 0.0
_POSITIONS = ("first", "second", "tie")


class _Preference(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def verdict(self) -> str | None: ...
    @property
    def problem(self) -> str | None: ...


Prefer = Callable[[Sequence[JudgedPair]], Sequence[_Preference]]


@dataclass(frozen=True, eq=False, repr=False)
class PairwiseMeasure(Measure):
    """A measure of two views: gated with compared_with and a threshold, and read with `against(other).scores(view)`.

    compare: view, other -> Scores of the view against the other.
    """

    compare: Callable[[str, str], Scores] = field(kw_only=True)
    _against: dict[str, Measure] = field(default_factory=dict, init=False)

    def against(self, other: str) -> Measure:
        """The measure of any view against `other`, named e.g. judge.win_rate[base]; the same object each time."""
        if other not in self._against:
            name = f"{self.name}[{other}]"
            self._against[other] = Measure(name, lambda view: self.compare(view, other), self.bounds)
        return self._against[other]


def win_rate(
    examples: Sequence[Example],
    outputs: Callable[[str], Outputs],
    prefer: Prefer | None,
    *,
    judge: str,
    note: Callable[[], str],
    seed: int,
) -> PairwiseMeasure:
    """The share of examples on which the judge prefers the view's answer, where a tie counts one half.

    outputs: view -> answers. prefer: one preference a pair; None where the judge cannot compare. judge, note: its name
    and caveat. seed: of the draw of sides.

    An example is 1 if the view's answer is preferred in both orders, 0 if the other's is, and 0.5 for a tie; a verdict
    that changes with the order is a tie too, and so are two identical answers, which are not asked about. A pair
    without a verdict in one of its orders is unscored.
    """
    name = "judge.win_rate"

    def of_one(view: str) -> Scores:
        raise GateError(f'{name}: it compares two views. Read it as {name}.against("base").scores("{view}").')

    def compare(view: str, other: str) -> Scores:
        if prefer is None:
            raise GateError(
                f"{name}: the judge {judge} does not compare answers in pairs. Gate judge.score, with compared_with "
                "and max_drop or min_gain."
            )
        ours, theirs = (texts_of(outputs(one), one) for one in (view, other))
        both = [e for e in examples if e.id in ours and e.id in theirs]
        values = {e.id: TIE for e in both if ours[e.id] == theirs[e.id]}
        asked = [e for e in both if e.id not in values]
        orders = {e.id: _two_orders(e, ours[e.id], theirs[e.id], seed) for e in asked}
        said = _preferences([pair for two in orders.values() for pair in two], prefer, judge)
        unscored = {e.id: f"no answer from the view {other if e.id in ours else view}" for e in examples}
        turns: dict[str, tuple[str, ...]] = {}
        for e in asked:
            found = [said.get(pair.id) for pair in orders[e.id]]
            problem = next(filter(None, map(_problem, found)), None)
            if problem is not None:
                unscored[e.id] = problem
                continue
            turns[e.id] = tuple(str(one.verdict) for one in found if one is not None)
            results = {
                _result(verdict, ours_first=pair.first == ours[e.id])
                for pair, verdict in zip(orders[e.id], turns[e.id], strict=True)
            }
            values[e.id] = results.pop() if len(results) == 1 else TIE
        bias = _position_bias([e for e in asked if e.id in turns], turns)
        identical = len(both) - len(asked)
        cut = (f"{one}: {part}" for one in (view, other) if (part := truncation_note(outputs(one), examples)))
        notes = "; ".join(filter(None, (note(), _in_words(bias, identical), *cut)))
        scores = scores_of(f"{name}[{other}]", view, examples, values, unscored, bounds=(LOSS, WIN), note=notes)
        return replace(scores, compared_with=other, details={"position_bias": {**bias, "identical": identical}})

    return PairwiseMeasure(name, of_one, (LOSS, WIN), compare=compare)


def _two_orders(example: Example, ours: str, theirs: str, seed: int) -> tuple[JudgedPair, JudgedPair]:
    """The pair as drawn, and the other way round. Neither the ids nor their order says which answer is whose."""
    # By example and not by position: the draw stays when the test set grows.
    swapped = random.Random(f"{seed} {example.id}").random() < 0.5
    one, other = (theirs, ours) if swapped else (ours, theirs)
    question = question_of(example)
    return (
        JudgedPair(f"{example.id} 1", question, example.expected, one, other),
        JudgedPair(f"{example.id} 2", question, example.expected, other, one),
    )


def _preferences(pairs: Sequence[JudgedPair], prefer: Prefer, judge: str) -> dict[str, _Preference]:
    """id -> preference. Raises JudgeError if the judge compares a pair twice, or one that it was not shown."""
    preferences = list(prefer(pairs)) if pairs else []
    asked = {pair.id for pair in pairs}
    for pair_id, count in Counter(one.id for one in preferences).items():
        if pair_id not in asked or count > 1:
            what = "twice" if pair_id in asked else "without being asked"
            raise JudgeError(f"the judge {judge} compared {pair_id!r} {what}")
    return {one.id: one for one in preferences}


def _problem(found: _Preference | None) -> str | None:
    if found is None:
        return "the judge gave no verdict"
    if found.problem:
        return found.problem
    if found.verdict is None:
        return "the judge gave no verdict and no reason"
    return None if found.verdict in _POSITIONS else f"the judge's verdict is {found.verdict!r}"[:200]


def _result(verdict: str, *, ours_first: bool) -> float:
    if verdict == "tie":
        return TIE
    return WIN if (verdict == "first") is ours_first else LOSS


def _position_bias(examples: Sequence[Example], turns: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """How many of the pairs changed their verdict with the order, with a 95 % interval, and what each position won.

    Where order plays no part, both positions win equally often, each pair being asked in both orders.
    """
    said = Counter(verdict for two in turns.values() for verdict in two)
    flips = [turns[e.id] not in (("first", "second"), ("second", "first"), ("tie", "tie")) for e in examples]
    bias: dict[str, Any] = {
        "pairs": len(flips),
        "flipped": sum(flips),
        "first": said["first"],
        "second": said["second"],
        "flip_rate": None,
        "low": None,
        "high": None,
    }
    if flips:
        from harness.statistics import proportion

        groups = [e.group or e.id for e in examples] if any(e.group for e in examples) else None
        rate = proportion([float(flip) for flip in flips], groups=groups)
        bias |= {"flip_rate": rate.value, "low": rate.low, "high": rate.high}
    return bias


def _in_words(bias: Mapping[str, Any], identical: int) -> str:
    same = f"{identical} identical {'answer is' if identical == 1 else 'answers are'} a tie, not asked about"
    if not bias["pairs"]:
        return same if identical else ""
    flips = (
        f"position bias: the verdict on {bias['flipped']} of {bias['pairs']} pairs changed with the order, "
        f"flip rate {bias['flip_rate']:.3f} [{bias['low']:.3f}, {bias['high']:.3f}]"
    )
    return f"{flips}; {same}" if identical else flips
