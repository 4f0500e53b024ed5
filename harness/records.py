"""The frozen types that flow from data to report.

    Example -> Outputs / Choices -> Scores -> Estimate -> Verdict -> Run

A record holds plain values (str, int, float, tuples, mappings): it can be compared, stored as JSON and
sent between processes. Missing is None with a reason, never 0 and never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

__all__ = [
    "ADAPTER",
    "BASE",
    "PROMPTED_BASE",
    "VIEWS",
    "Choices",
    "Estimate",
    "Example",
    "GateResult",
    "MeasureResult",
    "Message",
    "Outcome",
    "Outputs",
    "RecipeResult",
    "Role",
    "Rule",
    "Run",
    "Scores",
    "TrainingSummary",
    "Verdict",
]

Role = Literal["system", "user", "assistant"]

BASE = "base"
PROMPTED_BASE = "prompted_base"
ADAPTER = "adapter"
VIEWS = (BASE, PROMPTED_BASE, ADAPTER)


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One item of a data set.

    messages: the prompt, in order; the expected assistant answer is not among them.
    expected: the text a right answer has: the label, the output, the reference answer.
    group: items that are not independent (same merchant, same ticket family) share one.
    slices: name -> value, for verdicts on parts of the test set.
    source: "file:line", for error messages.
    """

    id: str
    messages: tuple[Message, ...]
    expected: str
    label: str | None = None
    group: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a view answered: texts in the order of ids.

    truncated: ids whose answer stopped at the token limit and not at its end.
    """

    view: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    truncated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choices:
    """What a view thinks of a fixed list of answers to every example.

    log_likelihoods: (n, k) natural log of P(option | prompt), summed over the option's tokens and the
    end-of-turn token, so that an option that is a prefix of another is not preferred for being short.
    """

    view: str
    ids: tuple[str, ...]
    options: tuple[str, ...]
    log_likelihoods: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """One measure on one view, example by example; never only a mean.

    measure: dotted name, e.g. "classification.macro_f1".
    ids, values: (n,) the scored examples, higher is better unless the name ends in _loss or _error.
    statistic: how values become one number. "mean", or the name of a function of the confusion matrix of
        (truth, predicted) that `harness.statistics.confusion` knows, e.g. "macro_f1" or "f1:payroll".
    truth, predicted: (n,) labels where the statistic needs them, else None. labels: all labels, in order.
    groups: (n,) or None. slices: name -> (n,) values.
    bounds: the lowest and highest value an example can have; (0, 1) with only 0 and 1 makes a proportion.
    n_expected: how many examples the suite asked for; unscored: id -> why it has no value.
    note: a caveat that every output must show, e.g. that the judge is a stand-in.
    """

    measure: str
    view: str
    ids: tuple[str, ...]
    values: tuple[float, ...]
    n_expected: int
    statistic: str = "mean"
    truth: tuple[str, ...] | None = None
    predicted: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bounds: tuple[float, float] = (0.0, 1.0)
    unscored: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def n_unscored(self) -> int:
        return len(self.unscored)

    def problem(self) -> str | None:
        """Why these scores cannot carry a verdict, or None: a missing, doubled or non-finite value."""
        if self.unscored:
            example_id, reason = next(iter(self.unscored.items()))
            count = f"{len(self.unscored)} of {self.n_expected} examples"
            return f"{count} have no score, first {example_id}: {reason}"
        if len(self.ids) != len(self.values):
            return f"{len(self.values)} values for {len(self.ids)} examples"
        if len(set(self.ids)) != len(self.ids):
            return "an example was scored twice"
        if len(self.ids) != self.n_expected:
            return f"{len(self.ids)} examples scored where {self.n_expected} were expected"
        if not self.ids:
            return "no example was scored"
        for example_id, value in zip(self.ids, self.values, strict=True):
            if not math.isfinite(value):
                return f"the score of {example_id} is {value}, not a finite number"
        return None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, the interval around it, from how many examples, and by which method."""

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95


class Outcome(StrEnum):
    """How a gate ended. Only PASS passes."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a gate demands of a measure.

    Exactly one of: at_least / at_most (absolute; either or both), or compared_with with max_drop
    (non-inferiority: view - baseline > -max_drop) or min_gain (superiority: view - baseline > min_gain).
    decide: "point" looks at the estimate, "confident" asks the whole interval to clear the bar.
    """

    at_least: float | None = None
    at_most: float | None = None
    compared_with: str | None = None
    max_drop: float | None = None
    min_gain: float | None = None
    decide: Literal["point", "confident"] = "point"
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of an estimate, with a reason a person can act on.

    value, low, high: the measure on the view. baseline: the value of the view compared with.
    difference, difference_low, difference_high: paired, view minus baseline. All None where not defined.
    rule: in words, e.g. "at least 0.90". threshold / margin: the rule's number.
    """

    measure: str
    view: str
    rule: str
    outcome: Outcome
    reason: str
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    compared_with: str | None = None
    baseline: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    margin: float | None = None
    method: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A verdict and where it was asked for. id is unique in a run: recipe/test_name/measure[#k]."""

    id: str
    test: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """A measure on a view as the report shows it; where value, low and high are None, note says why."""

    name: str
    view: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_unscored: int
    method: str = ""
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """How the adapter came to be. loss: (step, training loss); validation_loss: (step, loss)."""

    seconds: float
    tokens: int
    steps: int
    max_steps: int
    loss: tuple[tuple[int, float], ...]
    validation_loss: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class RecipeResult:
    """Everything one run says of one recipe.

    base: the base model as the recipe names it. samples: a few examples as shown to stakeholders, each with
    id, prompt, expected and the views' answers.
    """

    name: str
    base: str
    fingerprint: str
    adapter_digest: str | None
    from_store: bool | None
    training: TrainingSummary | None
    measures: tuple[MeasureResult, ...]
    gates: tuple[GateResult, ...]
    description: str = ""
    problem: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of the harness."""

    run_id: str
    outcome: Outcome
    started_at: str
    duration_seconds: float
    provenance: Mapping[str, Any]
    recipes: tuple[RecipeResult, ...]
    problems: tuple[str, ...] = ()
    schema_version: int = 1
