"""Two recorded runs side by side: what changed, by how much on the same examples, and on which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness import statistics
from harness.errors import StatisticsError
from harness.gates.parts import restricted
from harness.records import ADAPTER, Estimate, GateResult, RecipeResult, Run, Scores
from harness.store import StoredRun

__all__ = ["GatePair", "MeasureChange", "RecipeChange", "compare_recipe", "compared_recipes"]


class GatePair(NamedTuple):
    """A gate in both runs; None where a run did not decide it. either: the later one that there is."""

    before: GateResult | None
    after: GateResult | None
    either: GateResult

    @property
    def changed(self) -> bool:
        """Whether it asks something else, or ended in another way."""
        if self.before is None or self.after is None:
            return True
        one, other = self.before.verdict, self.after.verdict
        return (one.rule, one.outcome) != (other.rule, other.outcome)


class _Part(NamedTuple):
    """What a gate is on: a measure on a view, or on the examples of a slice's value."""

    measure: str
    view: str
    slice_name: str | None = None
    slice_value: str | None = None


@dataclass(frozen=True, slots=True)
class MeasureChange:
    """A measure in both runs.

    difference: after minus before, paired by example; None with the problem that it has.
    lost, gained: ids of examples that were right before and are wrong now, and the other way; of a slice none, and
    none of a measure that has more to say of an example than right or wrong.
    """

    measure: str
    view: str
    slice_name: str | None
    slice_value: str | None
    before: float | None
    after: float | None
    difference: Estimate | None
    problem: str | None
    gates: tuple[GatePair, ...]
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecipeChange:
    """A recipe in both runs. same_test_set: None where a run does not say which file it had."""

    before: RecipeResult
    after: RecipeResult
    same_test_set: bool | None
    measures: tuple[MeasureChange, ...]


def compared_recipes(before: Run, after: Run) -> tuple[str, ...]:
    """The recipes that both runs had, in the order of the later one."""
    known = {recipe.name for recipe in before.recipes}
    return tuple(recipe.name for recipe in after.recipes if recipe.name in known)


def compare_recipe(
    name: str, before: tuple[StoredRun, Run], after: tuple[StoredRun, Run], *, confidence: float = 0.95
) -> RecipeChange:
    """What changed in a recipe that both runs had: each gate's part, and each measure of the adapter.

    Raises StoreError if a run's scores are of another version.
    """
    one, other = (next(recipe for recipe in run.recipes if recipe.name == name) for _, run in (before, after))
    scores = [_by_part(stored, name) for stored, _ in (before, after)]
    seed = other.config.get("seed")
    pairs: dict[_Part, list[GatePair]] = {}
    for pair in _paired(one, other):
        pairs.setdefault(_part(pair), []).append(pair)
    for measure, view in scores[1]:
        if view == ADAPTER and (measure, view) in scores[0]:
            pairs.setdefault(_Part(measure, view), [])
    measures = []
    for part, gates in pairs.items():
        was, now = (found.get((part.measure, part.view)) for found in scores)
        measures.append(_change(part, tuple(gates), was, now, confidence, seed if isinstance(seed, int) else 0))
    digests = [recipe.data.get("test", {}).get("sha256") for recipe in (one, other)]
    return RecipeChange(
        one, other, None if None in digests else digests[0] == digests[1], tuple(sorted(measures, key=_as_before))
    )


def _as_before(change: MeasureChange) -> bool:
    return not any(gate.changed for gate in change.gates)


def _by_part(stored: StoredRun, recipe: str) -> dict[tuple[str, str], Scores]:
    """The scores by measure and view. The run takes the place of the view's name, for messages about two runs."""
    found = stored.scores.get(recipe, ())
    return {(one.measure, one.view): replace(one, view=stored.run_id) for one in found}


def _paired(before: RecipeResult, after: RecipeResult) -> Iterator[GatePair]:
    known = {gate.id: gate for gate in before.gates}
    for gate in after.gates:
        yield GatePair(known.pop(gate.id, None), gate, gate)
    for gate in known.values():
        yield GatePair(gate, None, gate)


def _part(pair: GatePair) -> _Part:
    verdict = pair.either.verdict
    return _Part(verdict.measure, verdict.view, verdict.slice_name, verdict.slice_value)


def _change(
    part: _Part, gates: tuple[GatePair, ...], before: Scores | None, after: Scores | None, confidence: float, seed: int
) -> MeasureChange:
    if before is None or after is None:
        return MeasureChange(*part, None, None, None, "not in both runs", gates)
    if part.slice_name is not None:
        before, after = (_sliced(scores, part.slice_name, part.slice_value) for scores in (before, after))
    values = _value(before), _value(after)
    try:
        difference = statistics.difference(after, before, confidence=confidence, seed=seed)
    except StatisticsError as error:
        return MeasureChange(*part, *values, None, str(error), gates)
    lost, gained = ((), ()) if part.slice_name is not None else _flips(before, after)
    return MeasureChange(*part, *values, difference, None, gates, lost, gained)


def _sliced(scores: Scores, name: str, value: str | None) -> Scores:
    column = scores.slices.get(name, ())
    return restricted(scores, frozenset(i for i, v in zip(scores.ids, column, strict=False) if v == value))


def _value(scores: Scores) -> float | None:
    try:
        return statistics.point(scores)
    except StatisticsError:
        return None


def _flips(before: Scores, after: Scores) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The examples that were right and are wrong, and those that were wrong and are right."""
    was, now = _right(before), _right(after)
    if was is None or now is None:
        return (), ()
    changed = [example for example in now if was[example] != now[example]]
    return tuple(e for e in changed if was[e]), tuple(e for e in changed if now[e])


def _right(scores: Scores) -> Mapping[str, bool] | None:
    """Whether each example is right, or None where the measure does not say."""
    if scores.truth is not None and scores.predicted is not None:
        answers = zip(scores.truth, scores.predicted, strict=True)
        return dict(zip(scores.ids, (true == guess for true, guess in answers), strict=True))
    if scores.bounds != (0.0, 1.0) or not set(scores.values) <= {0.0, 1.0}:
        return None
    return dict(zip(scores.ids, (value == 1.0 for value in scores.values), strict=True))
