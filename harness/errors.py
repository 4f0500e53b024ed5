"""The exceptions of the harness. Each message says where, what was found and what to do.

HarnessError
├── RecipeError         a recipe file cannot be used; carries every problem of the file
├── DataError           a data set cannot be used; carries every problem found
├── BaseModelError      the base model is absent or cannot be loaded
├── TrainingError       training did not end as it should
│   └── TrainingInterrupted   stopped by Ctrl-C or SIGTERM; the next run goes on from its checkpoint
├── AdapterMissing      no trained adapter, and training was not allowed
├── ScoringError        a model could not answer or score an example
├── CapabilityError     a capability task cannot be used
├── RubricError         a judge's rubric file cannot be used
├── JudgeError          the judge gave no usable grade
├── StatisticsError     an estimate is not defined for these inputs
├── GateError           a gate was asked for something it cannot decide
├── StoreError          the artifact store cannot be read or written
├── TrackingError       the settings of tracking cannot be used
├── HubError            an adapter was not uploaded
├── PromotionError      a run may not be promoted, or an adapter is not the promoted one; carries every reason
└── ReportError         a report cannot be read or rendered
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AdapterMissing",
    "BaseModelError",
    "CapabilityError",
    "DataError",
    "GateError",
    "HarnessError",
    "HubError",
    "JudgeError",
    "PromotionError",
    "RecipeError",
    "ReportError",
    "RubricError",
    "ScoringError",
    "StatisticsError",
    "StoreError",
    "TrackingError",
    "TrainingError",
    "TrainingInterrupted",
]


class HarnessError(Exception):
    """Anything the harness reports to its user; the text is complete on its own."""


class ProblemsError(HarnessError):
    """Several problems of one input, reported together.

    problems: one line each, in the order of the file; never empty.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class RecipeError(ProblemsError):
    """A recipe file cannot be used."""


class DataError(ProblemsError):
    """A data set cannot be used."""


class PromotionError(ProblemsError):
    """A run may not be promoted, or an adapter is not the promoted one."""


class RubricError(ProblemsError):
    """A judge's rubric file cannot be used."""


class BaseModelError(HarnessError):
    """The base model is absent or cannot be loaded."""


class TrainingError(HarnessError):
    """Training did not end as it should; no adapter was written."""


class TrainingInterrupted(TrainingError):
    """Training was stopped by Ctrl-C or SIGTERM; no adapter was written, and the message says what was kept."""


class AdapterMissing(HarnessError):
    """No adapter with the recipe's fingerprint is in the store, and training was not allowed."""


class ScoringError(HarnessError):
    """A model could not answer or score an example."""


class CapabilityError(HarnessError):
    """A capability task cannot be used."""


class JudgeError(HarnessError):
    """The judge gave no usable grade."""


class StatisticsError(HarnessError):
    """An estimate is not defined for these inputs."""


class GateError(HarnessError):
    """A gate was asked for something it cannot decide."""


class StoreError(HarnessError):
    """The artifact store cannot be read or written."""


class TrackingError(HarnessError):
    """The settings of tracking cannot be used; a tracker that fails is only warned of."""


class HubError(HarnessError):
    """An adapter was not uploaded."""


class ReportError(HarnessError):
    """A report cannot be read or rendered."""
