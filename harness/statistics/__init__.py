"""Estimates with intervals, from scores of examples: arrays in, `Estimate` out.

Loads numpy and scipy on first use of a function, not on import: collecting tests needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.statistics.confusion import confusion_difference, confusion_estimate
    from harness.statistics.means import mean, paired_mean
    from harness.statistics.proportions import mcnemar_exact, paired_proportions, proportion
    from harness.statistics.scored import difference, estimate, point

__all__ = [
    "confusion_difference",
    "confusion_estimate",
    "difference",
    "estimate",
    "mcnemar_exact",
    "mean",
    "paired_mean",
    "paired_proportions",
    "point",
    "proportion",
]

_ROOMS = {
    "confusion_difference": "confusion",
    "confusion_estimate": "confusion",
    "difference": "scored",
    "estimate": "scored",
    "mcnemar_exact": "proportions",
    "mean": "means",
    "paired_mean": "means",
    "paired_proportions": "proportions",
    "point": "scored",
    "proportion": "proportions",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
