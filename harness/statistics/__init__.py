"""Estimates with intervals, from scores of examples: arrays in, `Estimate` out.

Loads numpy and scipy on first use of a function, not on import: collecting tests needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.statistics.confusion import confusion_difference, confusion_estimate
    from harness.statistics.means import mean, paired_mean
    from harness.statistics.multiple import holm, p_value
    from harness.statistics.planning import Design, design_of, detectable, needed, power
    from harness.statistics.proportions import mcnemar_exact, paired_proportions, proportion
    from harness.statistics.scored import difference, estimate, point
    from harness.statistics.sequential import SequentialTest, Stop, confidence_sequence, stop_early

__all__ = [
    "Design",
    "SequentialTest",
    "Stop",
    "confidence_sequence",
    "confusion_difference",
    "confusion_estimate",
    "design_of",
    "detectable",
    "difference",
    "estimate",
    "holm",
    "mcnemar_exact",
    "mean",
    "needed",
    "p_value",
    "paired_mean",
    "paired_proportions",
    "point",
    "power",
    "proportion",
    "stop_early",
]

_ROOMS = {
    "Design": "planning",
    "SequentialTest": "sequential",
    "Stop": "sequential",
    "confidence_sequence": "sequential",
    "confusion_difference": "confusion",
    "confusion_estimate": "confusion",
    "design_of": "planning",
    "detectable": "planning",
    "difference": "scored",
    "estimate": "scored",
    "holm": "multiple",
    "mcnemar_exact": "proportions",
    "mean": "means",
    "needed": "planning",
    "p_value": "multiple",
    "paired_mean": "means",
    "paired_proportions": "proportions",
    "point": "scored",
    "power": "planning",
    "proportion": "proportions",
    "stop_early": "sequential",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
