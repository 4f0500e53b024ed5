"""Estimates with intervals, from scores of examples: arrays in, `Estimate` out.

Loads numpy and scipy on first use of a function, not on import: collecting tests needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.statistics.agreement import grade_counts, length_bias, shift, spearman, weighted_kappa, whole_grades
    from harness.statistics.confusion import confusion_difference, confusion_estimate
    from harness.statistics.means import mean, paired_mean
    from harness.statistics.multiple import holm, p_value
    from harness.statistics.planning import Design, design_of, detectable, needed, power
    from harness.statistics.ppi import Corrected, corrected_mean
    from harness.statistics.proportions import mcnemar_exact, paired_proportions, proportion
    from harness.statistics.scored import Correction, correction, difference, estimate, point
    from harness.statistics.sequential import SequentialTest, confidence_sequence
    from harness.statistics.stopping import Stop, UnitTest, betting_interval, drawn_units, spending, stop_early

__all__ = [
    "Corrected",
    "Correction",
    "Design",
    "SequentialTest",
    "Stop",
    "UnitTest",
    "betting_interval",
    "confidence_sequence",
    "confusion_difference",
    "confusion_estimate",
    "corrected_mean",
    "correction",
    "design_of",
    "detectable",
    "difference",
    "drawn_units",
    "estimate",
    "grade_counts",
    "holm",
    "length_bias",
    "mcnemar_exact",
    "mean",
    "needed",
    "p_value",
    "paired_mean",
    "paired_proportions",
    "point",
    "power",
    "proportion",
    "shift",
    "spearman",
    "spending",
    "stop_early",
    "weighted_kappa",
    "whole_grades",
]

_ROOMS = {
    "Corrected": "ppi",
    "Correction": "scored",
    "Design": "planning",
    "SequentialTest": "sequential",
    "Stop": "stopping",
    "UnitTest": "stopping",
    "betting_interval": "stopping",
    "confidence_sequence": "sequential",
    "confusion_difference": "confusion",
    "confusion_estimate": "confusion",
    "corrected_mean": "ppi",
    "correction": "scored",
    "design_of": "planning",
    "detectable": "planning",
    "difference": "scored",
    "drawn_units": "stopping",
    "estimate": "scored",
    "grade_counts": "agreement",
    "holm": "multiple",
    "length_bias": "agreement",
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
    "shift": "agreement",
    "spearman": "agreement",
    "weighted_kappa": "agreement",
    "whole_grades": "agreement",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
