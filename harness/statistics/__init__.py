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
    from harness.statistics.sequential import SequentialTest, confidence_sequence
    from harness.statistics.stopping import Stop, UnitTest, betting_interval, drawn_units, spending, stop_early

__all__ = [
    "Design",
    "SequentialTest",
    "Stop",
    "UnitTest",
    "betting_interval",
    "confidence_sequence",
    "confusion_difference",
    "confusion_estimate",
    "design_of",
    "detectable",
    "difference",
    "drawn_units",
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
    "spending",
    "stop_early",
]

_ROOMS = {
    "Design": "planning",
    "SequentialTest": "sequential",
    "Stop": "stopping",
    "UnitTest": "stopping",
    "betting_interval": "stopping",
    "confidence_sequence": "sequential",
    "confusion_difference": "confusion",
    "confusion_estimate": "confusion",
    "design_of": "planning",
    "detectable": "planning",
    "difference": "scored",
    "drawn_units": "stopping",
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
    "spending": "stopping",
    "stop_early": "stopping",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
