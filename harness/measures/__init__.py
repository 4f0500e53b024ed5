"""Outputs -> Scores. A measure gets callables that answer for a view, never a model."""

from harness.measures.capability import CapabilityResult, CapabilityTask
from harness.measures.classification import Classification, ConfusionMatrix
from harness.measures.generation import Generation
from harness.measures.judge import Judged
from harness.measures.measure import Measure
from harness.measures.preference import PairwiseMeasure
from harness.measures.shown import JudgedAnswer, JudgedPair
from harness.measures.structure import RuleMeasure, Structure

__all__ = [
    "CapabilityResult",
    "CapabilityTask",
    "Classification",
    "ConfusionMatrix",
    "Generation",
    "Judged",
    "JudgedAnswer",
    "JudgedPair",
    "Measure",
    "PairwiseMeasure",
    "RuleMeasure",
    "Structure",
]
