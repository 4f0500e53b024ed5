"""Capability: what a view still knows of a task it was not trained on, to see what training cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from harness.errors import CapabilityError
from harness.measures.measure import Measure
from harness.records import Scores

__all__ = ["CapabilityResult", "CapabilityTask"]


@dataclass(frozen=True, slots=True)
class CapabilityResult:
    """One view's items of one task.

    ids: (n,) of items with values. values: metric -> (n,) 0 or 1, in the order of ids.
    n_expected: how many items the task has. unscored: id -> why the item has no value or why its values,
    if ids has it, must not count, e.g. a log-likelihood that is not finite.
    groups, slices: as in Scores, in the order of ids.
    chance: the accuracy of guessing, None where that is not known.
    """

    view: str
    ids: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    n_expected: int
    unscored: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    chance: float | None = None


class CapabilityTask:
    """A capability task: `accuracy`, and `accuracy_norm` where the task measures it.

    name: of the task. run: view -> the items; asked once a view.
    accuracy is lm-eval's "acc": the likeliest choice is the right one. accuracy_norm is its "acc_norm": the
    same after each choice's log-likelihood was divided by its number of characters.
    """

    def __init__(self, name: str, run: Callable[[str], CapabilityResult]) -> None:
        self.name = name
        self._run = run
        self._results: dict[str, CapabilityResult] = {}

    @cached_property
    def accuracy(self) -> Measure:
        return self._measure("accuracy", "acc")

    @cached_property
    def accuracy_norm(self) -> Measure:
        return self._measure("accuracy_norm", "acc_norm")

    def result(self, view: str) -> CapabilityResult:
        """The items of the view, run on first use."""
        if view not in self._results:
            result = self._run(view)
            if result.view != view:
                raise CapabilityError(f"capability task {self.name}: asked for {view!r}, got {result.view!r}")
            self._results[view] = result
        return self._results[view]

    def __repr__(self) -> str:
        return f"<CapabilityTask {self.name}>"

    def _measure(self, name: str, metric: str) -> Measure:
        full_name = f"capability.{self.name}.{name}"
        return Measure(full_name, lambda view: self._scores(full_name, metric, view))

    def _scores(self, measure: str, metric: str, view: str) -> Scores:
        result = self.result(view)
        where = f"capability task {self.name}"
        if result.ids and metric not in result.values:
            known = ", ".join(result.values) or "none"
            raise CapabilityError(
                f"{where} does not measure {metric!r}; it has: {known}. Add it to the task's metric_list."
            )
        values = result.values.get(metric, ())
        if len(values) != len(result.ids):
            raise CapabilityError(f"{where}: {len(values)} values of {metric!r} for {len(result.ids)} items")
        unscored = dict(result.unscored)
        for item, value in zip(result.ids, values, strict=True):
            if item in unscored:
                continue
            if not math.isfinite(value):
                unscored[item] = f"its {metric} is {value}, not a finite number"
            elif not 0.0 <= value <= 1.0:
                raise CapabilityError(f"{where}: {metric!r} of item {item} is {value}, not within 0 to 1")
        kept = [k for k, item in enumerate(result.ids) if item not in unscored]
        groups = result.groups
        return Scores(
            measure=measure,
            view=view,
            ids=tuple(result.ids[k] for k in kept),
            values=tuple(float(values[k]) for k in kept),
            n_expected=result.n_expected,
            groups=None if groups is None else tuple(groups[k] for k in kept),
            slices={name: tuple(column[k] for k in kept) for name, column in result.slices.items()},
            unscored=unscored,
            chance=result.chance,
        )
