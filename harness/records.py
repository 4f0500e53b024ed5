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
    "PROMOTED",
    "PROMPTED_BASE",
    "VIEWS",
    "Choices",
    "Drivers",
    "Estimate",
    "Example",
    "GateResult",
    "IntegrityCheck",
    "JudgingSummary",
    "MeasureResult",
    "Message",
    "Outcome",
    "Outputs",
    "RecipeResult",
    "Role",
    "Rule",
    "RuleKind",
    "Run",
    "Scores",
    "SeedResult",
    "SliceShare",
    "TermCount",
    "TrainingSummary",
    "Verdict",
]

Role = Literal["system", "user", "assistant"]

BASE = "base"
PROMPTED_BASE = "prompted_base"
PROMOTED = "promoted"
ADAPTER = "adapter"
VIEWS = (BASE, PROMPTED_BASE, PROMOTED, ADAPTER)


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
    end-of-turn token, so that an option that is a prefix of another is not preferred for being short. None for an
    option that was not read to its end because it cannot be the likeliest one.
    """

    view: str
    ids: tuple[str, ...]
    options: tuple[str, ...]
    log_likelihoods: tuple[tuple[float | None, ...], ...]


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
    chance: what guessing would get, where that is known.
    compared_with: the other view, where each value compares two views' answers, as in a win rate.
    details: plain values beside the number, for the report, e.g. how often a judge's verdict depended on the order.
    note: a caveat that every output must show, e.g. that the judge is a stand-in.
    replicates: the same scores of each adapter of a recipe that trains several, this one among them; a statement on
        the measure is on their mean. Empty where there is one adapter.
    human: (n,) what people graded the same answers, None where nobody did; with enough of them estimates are
        corrected (harness.statistics.ppi). None where nothing was graded by people.
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
    chance: float | None = None
    compared_with: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    replicates: tuple[Scores, ...] = ()
    human: tuple[float | None, ...] | None = None

    @property
    def n_unscored(self) -> int:
        return len(self.unscored)

    def problem(self) -> str | None:
        """Why these scores cannot carry a verdict, or None: a missing, doubled or non-finite value."""
        return next(filter(None, (one.problem() for one in self.replicates)), None) or self._own_problem()

    def _own_problem(self) -> str | None:
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
    """A number, the interval around it, from how many examples, and by which method.

    seeds: of how many adapters of one recipe it is the mean.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95
    seeds: int = 1


class Outcome(StrEnum):
    """How a gate ended. Only PASS passes.

    NOT_APPLICABLE: there is nothing to compare with yet, because no adapter of the recipe was promoted before.
    """

    PASS = "pass"
    NOT_APPLICABLE = "not_applicable"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INCOMPLETE = "incomplete"


class RuleKind(StrEnum):
    """What sort of demand a gate makes; what its numbers mean follows from it."""

    THRESHOLD = "threshold"
    DROP = "drop"
    GAIN = "gain"
    MUST_PASS = "must_pass"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a gate demands of a measure.

    At most one of: at_least / at_most (absolute; either or both), or compared_with with max_drop
    (non-inferiority: view - baseline > -max_drop) or min_gain (superiority: view - baseline > min_gain).
    A measure that is itself a comparison, as a win rate, takes compared_with with at_least or at_most.
    must_pass: ids of examples that have to be right, beside that or alone.
    decide: "point" looks at the estimate, "confident" asks the whole interval to clear the bar.
    n: how many examples there have to be, where the suite declares it.
    early_stop: whether the examples are taken in random order, and no more of them than the decision takes.
    """

    at_least: float | None = None
    at_most: float | None = None
    compared_with: str | None = None
    max_drop: float | None = None
    min_gain: float | None = None
    decide: Literal["point", "confident"] = "point"
    confidence: float = 0.95
    must_pass: tuple[str, ...] = ()
    n: int | None = None
    early_stop: bool = False

    @property
    def baseline(self) -> str | None:
        """The view whose own scores the rule needs beside those of the view that is gated, or None."""
        return self.compared_with if self.kind in (RuleKind.DROP, RuleKind.GAIN) else None

    @property
    def kind(self) -> RuleKind:
        """A rule that also names examples which must pass is of the kind of its number."""
        if self.max_drop is not None:
            return RuleKind.DROP
        if self.min_gain is not None:
            return RuleKind.GAIN
        if self.must_pass and self.at_least is None and self.at_most is None:
            return RuleKind.MUST_PASS
        return RuleKind.THRESHOLD


@dataclass(frozen=True, slots=True)
class SliceShare:
    """A slice's part in a drop or shortfall.

    contribution: in the unit of the measure; the parts of one slice name add up to the whole for a mean.
    """

    name: str
    value: str
    n: int
    contribution: float


@dataclass(frozen=True, slots=True)
class TermCount:
    """A word that failing examples have more often than others: in how many of each it is, and how sure that is.

    z: log-odds ratio by its standard error.
    """

    term: str
    failing: int
    others: int
    z: float


@dataclass(frozen=True, slots=True)
class Drivers:
    """What stands behind a verdict that is no pass.

    slices: the largest contributions, first the largest. failing: a few ids of the n_failing examples to look
    at first. terms: over-represented in all of these, compared with the n_others.
    """

    slices: tuple[SliceShare, ...] = ()
    failing: tuple[str, ...] = ()
    n_failing: int = 0
    n_others: int = 0
    terms: tuple[TermCount, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of an estimate, with a reason a person can act on.

    value, low, high: the measure on the view; where only named examples must pass, value is their share that
    did and n their number. baseline: the value of the view compared with.
    difference, difference_low, difference_high: paired, view minus baseline. All None where not defined.
    rule: in words, e.g. "at least 0.90". kind: what sort of rule it is. threshold / margin: the rule's number;
    at_least, at_most: both thresholds, where threshold is the nearer one.
    lowest, highest: what the measure can be at all; None where that has no end.
    slice_name, slice_value: the part of the test set that the verdict is on; None for all of it.
    must_pass_failed: ids of examples that had to be right and were not.
    drivers: what stands behind a verdict that is not a pass, where that is known.
    confidence: how sure a confident verdict has to be. p_value: of a fail, the one-sided evidence for it.
    after_holm: of a fail, whether it stands when the recipe's gates are read together; None where there is nothing
    to correct. warning: why these examples are unlikely to decide what the gate asks; "" where they are not.
    asked: the rule itself, by which a promotion tells whether a gate was loosened; None in a report from before that.
    out_of: of a gate that may stop early, how many examples there are, of which it used n; None for any other.
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
    kind: RuleKind = RuleKind.THRESHOLD
    at_least: float | None = None
    at_most: float | None = None
    lowest: float | None = None
    highest: float | None = None
    slice_name: str | None = None
    slice_value: str | None = None
    must_pass_failed: tuple[str, ...] = ()
    drivers: Drivers | None = None
    confidence: float | None = None
    p_value: float | None = None
    after_holm: bool | None = None
    warning: str = ""
    asked: Rule | None = None
    out_of: int | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """A verdict and where it was asked for.

    id is unique in a run: recipe/test_name/measure, then {slice=value} where it is on a slice, and #k where a
    test asks the same again.
    """

    id: str
    test: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class IntegrityCheck:
    """One thing that has to hold of an adapter before anything is measured with it.

    detail: what was found; where it did not pass, a clause that stands on its own in a gate's reason.
    """

    name: str
    passed: bool
    detail: str


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
class SeedResult:
    """One of several adapters of a recipe. promotable: it is the one that a promotion takes."""

    seed: int
    adapter_digest: str
    validation_loss: float
    promotable: bool


@dataclass(frozen=True, slots=True)
class JudgingSummary:
    """What the judging of a recipe took.

    graded: answers that a judge graded in this run, and pairs that it compared; from_cache: those that it had judged
    before; unscored: those without a grade or verdict. calls: requests sent, repeats included; unknown_calls: those
    that did not say what they used.
    input_tokens: without those written to and read from the prompt cache.
    cost_usd: with unknown calls at the most they can have cost; None where a model's price is not known.
    prices_as_of: date of the price list.
    """

    judges: tuple[str, ...]
    graded: int
    from_cache: int
    unscored: int
    calls: int = 0
    unknown_calls: int = 0
    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    budget_usd: float | None = None
    prices_as_of: str = ""


@dataclass(frozen=True, slots=True)
class RecipeResult:
    """Everything one run says of one recipe.

    base: the base model as the recipe names it. samples: a few examples as shown to stakeholders, each with
    id, prompt, expected and the views' answers. integrity: what was checked of the adapter before it was
    measured; empty where no gate asked for it. base_digest: of the base model's files.
    suites: file -> sha256 of the test files that were collected for the recipe, and of the conftest.py above them.
    tests: how many were "collected" and "passed", and those that were "named" one by one in the call.
    promoted: alias, version and adapter_digest of the promoted adapter; empty where no gate asked for it, or there
    is none. seeds: every adapter of a recipe that trains several; empty where it trains one.
    judging: what its judging took, where a judge was asked. calibration: how far the recipe's judge agrees with
    people, as harness.judging.calibration writes it; empty where no gate asked a judge.
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
    integrity: tuple[IntegrityCheck, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()
    base_digest: str | None = None
    suites: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, Any] = field(default_factory=dict)
    promoted: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[SeedResult, ...] = ()
    judging: JudgingSummary | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)


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
    schema_version: int = 3
