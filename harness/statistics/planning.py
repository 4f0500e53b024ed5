"""What a test set can decide, before anything is spent: power, the smallest effect, the examples needed.

Answers are for the intervals that `statistics.estimate` and `statistics.difference` make and the way
`gates.decide` reads them with decide="confident": a threshold by the two-sided interval, a comparison by the
one-sided bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, gammaln, nctdtr, ndtr, ndtri, stdtrit

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics.binomial import binomial_interval, clopper_pearson
from harness.statistics.bootstrap import Floats, Integers
from harness.statistics.confusion import bootstrap_interval, statistic
from harness.statistics.means import FEW_DEPARTURES, cluster_variance, grouped
from harness.statistics.proportions import CONTINUITY, tango_score
from harness.statistics.scored import interval, paired, point

__all__ = ["Design", "design_of", "detectable", "needed", "power"]

Kind = Literal["proportion", "paired_proportions", "mean", "paired_mean", "macro_f1", "paired_macro_f1"]
_KINDS = ("proportion", "paired_proportions", "mean", "paired_mean", "macro_f1", "paired_macro_f1")

# Planning defaults, for where nothing was measured yet.
DISCORDANCE = 0.15
CORRELATION = 0.5
LEVEL = 0.85
# Of the range that an example's value has.
SPREAD = 0.25

# A simulated power of 0.8 has a standard error of 2 points.
_TEST_SETS = 400
_RESAMPLES = 500
_SEED = 20231
# Simulated no larger than this; from there the width falls with the square root.
_LARGEST_SIMULATED = 4000
_MOST_EXAMPLES = 1_000_000
# As gates.decide counts a threshold as reached.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Design:
    """A question that a test set is to decide.

    kind: what is estimated. proportion, mean, macro_f1: one view against a threshold; paired_...: one view
        minus another on the same examples, against minus the largest drop allowed or the gain asked.
    n: examples.
    truth, target: the true value (or difference) assumed, and the number it has to clear. Give one; the other
        lies `effect` away. For max_drop: truth=0, a candidate as good as its baseline. For min_gain or
        at_least: the gain or threshold as target. A paired design with neither has truth=0.
    direction: "above" if the truth has to be shown to lie above the target, "below" for at_most, or for a fail.
    groups: how many groups the n examples form, None if they are independent. correlation: between the
        values of two examples of a group (intraclass), in [0, 1].
    discordance: share of examples that only one of the two views has right. For paired_mean the share on
        which the views differ at all, or None where nearly all do.
    spread: standard deviation of an example's value, or of the difference of its two values; None for a
        quarter of the range. For mean and paired_mean.
    bounds: of an example's value.
    level: the baseline's macro F1, for paired_macro_f1.
    support: (k,) test examples of each label, for macro F1; they sum to n.
    Raises StatisticsError if these contradict each other.
    """

    kind: Kind
    n: int
    truth: float | None = None
    target: float | None = None
    direction: Literal["above", "below"] = "above"
    groups: int | None = None
    correlation: float = CORRELATION
    discordance: float | None = None
    spread: float | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    level: float = LEVEL
    support: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise StatisticsError(f"design of a {self.kind}: {problem}")
        if self.paired and self.truth is None and self.target is None:
            object.__setattr__(self, "truth", 0.0)
        if self.kind in ("paired_proportions", "paired_macro_f1") and self.discordance is None:
            object.__setattr__(self, "discordance", DISCORDANCE)
        if self.spread is None:
            object.__setattr__(self, "spread", SPREAD * (self.bounds[1] - self.bounds[0]))

    @property
    def paired(self) -> bool:
        return self.kind.startswith("paired_")

    def _problem(self) -> str | None:
        if self.kind not in _KINDS:
            return f"known kinds are {', '.join(_KINDS)}"
        if self.n < 1:
            return f"n must be at least 1, got {self.n}"
        if self.truth is not None and self.target is not None:
            return "give truth or target; the other lies `effect` away"
        if self.truth is None and self.target is None and not self.paired:
            return "give the true value assumed (truth) or the threshold (target)"
        numbers = (self.truth, self.target, self.spread, self.discordance, self.correlation, self.level, *self.bounds)
        if not all(number is None or math.isfinite(number) for number in numbers):
            return "all its numbers must be finite"
        if self.groups is not None and not 2 <= self.groups <= self.n:
            return f"groups must be between 2 and n={self.n}, got {self.groups}"
        shares = {"correlation": self.correlation, "discordance": self.discordance, "level": self.level}
        for name, share in shares.items():
            if share is not None and not 0 <= share <= 1:
                return f"{name} must be between 0 and 1, got {share:g}"
        if self.spread is not None and self.spread < 0:
            return f"spread must not be negative, got {self.spread:g}"
        if not self.bounds[0] < self.bounds[1]:
            return f"bounds {self.bounds[0]:g} to {self.bounds[1]:g} leave no room for a value"
        if self.kind.endswith("macro_f1") and (
            len(self.support) < 2 or min(self.support) < 1 or sum(self.support) != self.n
        ):
            return f"support must be the examples of each of two or more labels and sum to n={self.n}"
        return None


def design_of(
    scores: Scores,
    baseline: Scores | None = None,
    *,
    truth: float | None = None,
    target: float | None = None,
    direction: Literal["above", "below"] = "above",
) -> Design:
    """The design that stored scores speak for: discordance, spread, level and correlation are taken from them.

    scores: of one view; baseline: of the other one, on the same examples. With neither truth nor target the
    truth is the value measured, or for two views no difference.
    Discordance is estimated with one example added that differs and one that does not, so it is never 0.
    Raises StatisticsError if the scores carry no estimate, or are of a statistic that has no plan: F1,
    precision or recall of one label, weighted and micro F1, macro precision and recall.
    """
    # Also for what it raises, where the scores do not fit together.
    estimate = interval(scores, baseline).at(0.95)
    if truth is None and target is None:
        truth = estimate.value if baseline is None else 0.0
    n, clusters = len(scores.values), grouped(scores.groups, len(scores.values))
    groups = None if clusters is None else int(clusters.max()) + 1
    if scores.statistic not in ("mean", "accuracy", "macro_f1"):
        raise StatisticsError(
            f"{scores.measure}: there is no plan for {scores.statistic}; plan for accuracy or macro_f1 instead."
        )
    values, (low, high) = paired(scores, baseline)
    whole = (-1.0, 0.0, 1.0) if baseline is not None else (0.0, 1.0)
    binary = (low, high) == (whole[0], 1.0) and bool(np.isin(values, whole).all())
    differing: float | None = None
    level = LEVEL
    if baseline is not None:
        level = point(baseline)
        differing = (int(np.count_nonzero(values)) + 1) / (n + 2)
    correlation = 0.0
    variance = float(values.var(ddof=1)) if n > 1 else 0.0
    if clusters is not None and groups is not None and variance > 0:
        effect = cluster_variance(values, clusters) / (variance / n)
        correlation = min(1.0, max(0.0, (effect - 1) / (n / groups - 1)))
    kind: Kind
    if scores.statistic == "macro_f1":
        kind = "macro_f1" if baseline is None else "paired_macro_f1"
    elif binary:
        kind = "proportion" if baseline is None else "paired_proportions"
    else:
        kind = "mean" if baseline is None else "paired_mean"
    truths = list(scores.truth or ())
    support = tuple(count for count in (truths.count(label) for label in scores.labels) if count)
    return Design(
        kind=kind,
        n=n,
        truth=truth,
        target=target,
        direction=direction,
        groups=groups,
        correlation=correlation,
        discordance=differing,
        spread=math.sqrt(variance) if kind in ("mean", "paired_mean") else None,
        bounds=scores.bounds,
        level=level if scores.statistic == "macro_f1" else LEVEL,
        support=support if scores.statistic == "macro_f1" else (),
    )


def power(design: Design, effect: float, *, confidence: float = 0.95) -> float:
    """The chance that a confident rule is met, if the truth lies `effect` beyond the target.

    effect: in the measure's unit; negative where the truth is on the wrong side, and then the power is the
    rate of false passes.

    How: proportions from the binomial distribution, paired ones from the multinomial of wins and losses, both
    exact; in groups, and for means, from the noncentral t distribution (Johnson, Kotz and Balakrishnan 1995,
    "Continuous univariate distributions", chapter 31), for paired means that rarely differ mixed with the
    exact bound that `mean` uses there; macro F1 by simulating 400 test sets from a plausible confusion matrix
    (every label equally hard, half of the errors go to one other label, half to all the others) and 500
    resamples of each, which is off by about 2 points.
    Raises StatisticsError if the effect leaves no room, as a true proportion above 1 would.
    """
    _check(confidence)
    return _chance(design, effect, confidence)


def _chance(design: Design, effect: float, confidence: float) -> float:
    truth, target = _ends(design, effect)
    if design.kind.endswith("macro_f1"):
        return float(np.mean(_reach(design, truth, confidence) < _signed(design, truth - target)))
    if design.kind == "proportion":
        return _of_proportion(design, truth, target, confidence)
    if design.kind == "paired_proportions" and design.groups is None:
        return _of_pairs(design, truth, target, confidence)
    return _of_mean(design, truth, target, confidence)


def detectable(design: Design, *, power: float = 0.8, confidence: float = 0.95) -> float:
    """The smallest effect, a distance between truth and target, that is decided with this power.

    Raises StatisticsError if no effect is: there are too few examples.
    """
    _check(confidence, power)
    if design.kind.endswith("macro_f1"):
        return _detectable_simulated(design, power, confidence)
    room = _room(design)
    if _chance(design, room, confidence) < power:
        raise StatisticsError(
            f"{design.n} examples decide no effect with {100 * power:.3g} % power at confidence {confidence:g}, not "
            f"even {room:.3g}, the largest there can be. Add examples, or ask for less confidence."
        )
    low, high = 0.0, room
    while high - low > 1e-5 * room:
        middle = (low + high) / 2
        low, high = (low, middle) if _chance(design, middle, confidence) >= power else (middle, high)
    return high


def needed(design: Design, margin: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """How many examples decide an effect of `margin` with this power; groups and labels grow with them.

    margin: positive, in the measure's unit. Exact counts are jagged: a few examples more can have a little less
    power.
    Raises StatisticsError if a million examples would not do, or the margin leaves no room.
    """
    _check(confidence, power)
    if not margin > 0:
        raise StatisticsError(f"a margin to plan for must be positive, got {margin:g}")
    if design.kind.endswith("macro_f1"):
        return _needed_simulated(design, margin, power, confidence)
    low, high = 0, max(2, design.n)
    while _chance(_sized(design, high), margin, confidence) < power:
        low, high = high, 2 * high
        if high > _MOST_EXAMPLES:
            raise _unreachable(margin, power)
    while high - low > 1:
        middle = (low + high) // 2
        # Of fewer than two examples or groups nothing is known.
        enough = middle >= 2 and _chance(_sized(design, middle), margin, confidence) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _check(confidence: float, power: float = 0.8) -> None:
    if not 0.5 < confidence < 1:
        raise StatisticsError(f"confidence must be above 0.5 and below 1, got {confidence}")
    if not 0 < power < 1:
        raise StatisticsError(f"power must lie between 0 and 1, got {power}")


def _unreachable(margin: float, power: float) -> StatisticsError:
    return StatisticsError(
        f"not even {_MOST_EXAMPLES:,} examples decide a difference of {margin:g} with {100 * power:.3g} % power"
    )


def _limits(design: Design) -> tuple[float, float]:
    """Of the estimand."""
    low, high = (0.0, 1.0) if not design.kind.endswith("mean") else design.bounds
    return (low - high, high - low) if design.paired else (low, high)


def _signed(design: Design, number: float) -> float:
    return number if design.direction == "above" else -number


def _room(design: Design) -> float:
    """The largest effect there can be."""
    low, high = _limits(design)
    if design.truth is not None:
        return design.truth - low if design.direction == "above" else high - design.truth
    target = design.target or 0.0
    return high - target if design.direction == "above" else target - low


def _ends(design: Design, effect: float) -> tuple[float, float]:
    """Truth and target."""
    if not math.isfinite(effect):
        raise StatisticsError(f"an effect must be a finite number, got {effect}")
    step, (low, high) = _signed(design, effect), _limits(design)
    if design.truth is not None:
        truth, target = design.truth, design.truth - step
    else:
        assert design.target is not None  # one of them is given, see Design
        truth, target = design.target + step, design.target
    for name, number in (("true value", truth), ("target", target)):
        if not low - _ROUNDING <= number <= high + _ROUNDING:
            raise StatisticsError(f"an effect of {effect:g} puts the {name} at {number:g}, outside {low:g} to {high:g}")
    return min(max(truth, low), high), min(max(target, low), high)


def _sized(design: Design, n: int) -> Design:
    """The same question on n examples."""
    groups = design.groups
    if groups is not None:
        groups = min(n, max(2, round(n * groups / design.n)))
    support = design.support
    if support:
        # Round so that they sum to n: each label gets what the labels so far are short of.
        ends = np.rint(np.cumsum(support) * n / design.n).astype(int)
        support = tuple(int(count) for count in np.diff(ends, prepend=0))
    return replace(design, n=n, groups=groups, support=support)


def _inflation(design: Design) -> float:
    """Variance of a mean over that of as many independent examples (Kish 1965, "Survey sampling")."""
    return 1.0 if design.groups is None else 1 + (design.n / design.groups - 1) * design.correlation


def _of_proportion(design: Design, truth: float, target: float, confidence: float) -> float:
    if design.direction == "below":
        truth, target = 1 - truth, 1 - target
    n = design.n
    if design.groups is not None:
        # Wilson's bound at the effective number of examples clears the target if the share is so far above
        # it that the score test says so.
        effective, freedom = n / _inflation(design), design.groups - 1
        bar = math.sqrt(target * (1 - target) / effective) * float(stdtrit(freedom, (1 + confidence) / 2))
        error = math.sqrt(max(truth * (1 - truth), 1e-12) / effective)
        return _beyond(freedom, (truth - target) / error, bar / error)
    least, most = -1, n + 1
    while most - least > 1:
        middle = (least + most) // 2
        clears = binomial_interval(middle, n, confidence=confidence)[0] >= target - _ROUNDING
        least, most = (least, middle) if clears else (middle, most)
    return 0.0 if most > n else 1.0 if most == 0 else float(bdtrc(most - 1, n, truth))


def _of_pairs(design: Design, truth: float, target: float, confidence: float) -> float:
    if design.direction == "below":
        truth, target = -truth, -target
    n, discordance = design.n, max(abs(truth), design.discordance or 0.0)
    p_win, p_loss = (discordance + truth) / 2, (discordance - truth) / 2
    wins, losses = np.meshgrid(_likely(n, p_win), _likely(n, p_loss), indexing="ij")
    same = n - wins - losses
    possible = same >= 0
    chances = np.zeros(wins.shape)
    won, lost, kept = wins[possible], losses[possible], same[possible]
    chances[possible] = np.exp(
        gammaln(n + 1) - gammaln(won + 1) - gammaln(lost + 1) - gammaln(kept + 1)
        + _times_log(won, p_win) + _times_log(lost, p_loss) + _times_log(kept, max(0.0, 1 - discordance))
    )  # fmt: skip
    # As `paired_proportions` has it: corrected where a difference is to be shown, and not only ruled out.
    continuity = CONTINUITY if target >= 0 else 0.0
    passed = tango_score(wins, losses, n, target, continuity) > float(ndtri(confidence))
    return min(1.0, float(np.sum(chances * passed)))


def _likely(n: int, share: float) -> Floats:
    """The counts that n draws give with a chance worth adding up."""
    spread = 7 * math.sqrt(n * share * (1 - share)) + 7
    low, high = max(0, math.floor(n * share - spread)), min(n, math.ceil(n * share + spread))
    return np.arange(low, high + 1, dtype=np.float64) if share > 0 else np.zeros(1)


def _times_log(count: Floats, share: float) -> Floats:
    return count * math.log(share) if share > 0 else np.where(count > 0, -np.inf, 0.0)


def _of_mean(design: Design, truth: float, target: float, confidence: float) -> float:
    """Power of Student's t, as the noncentral t distribution has it."""
    tail = (1 - confidence) / 2 if not design.paired else 1 - confidence
    effect = _signed(design, truth - target)
    spread = design.spread or 0.0
    if design.kind == "paired_proportions":
        # In groups the differences are treated as any others.
        discordance = max(abs(truth), design.discordance or 0.0)
        spread = math.sqrt(discordance - truth**2)
    units = design.n if design.groups is None else design.groups
    if units < 2:
        return 0.0
    error = max(spread * math.sqrt(_inflation(design) / design.n), 1e-12)
    usual = _beyond(units - 1, effect / error, float(stdtrit(units - 1, 1 - tail)))
    if design.discordance is None or not design.paired:
        return usual
    return _with_few(design, units, truth, target, tail, usual)


def _with_few(design: Design, units: int, truth: float, target: float, tail: float, usual: float) -> float:
    """Where the views rarely differ: the exact bound of `means.mean` below ten units that do."""
    size = design.n / units
    departing = min(1.0, (design.discordance or 0.0) * (size if size > 1 else 1.0))
    width, bar = design.bounds[1] - design.bounds[0], -_signed(design, target)
    chance = total = 0.0
    for count in range(min(FEW_DEPARTURES, units // 2 + 1)):
        weight = float(bdtr(count, units, departing) - (bdtr(count - 1, units, departing) if count else 0.0))
        chance += weight
        for against in range(count + 1):
            half = math.comb(count, against) / 2**count
            worst = width * clopper_pearson(against, units, confidence=1 - 2 * tail)[1]
            total += weight * half * float(worst < bar)
    return total + (1 - chance) * usual


def _beyond(freedom: float, shift: float, quantile: float) -> float:
    """The chance that a noncentral t exceeds the quantile."""
    if freedom > 500 or abs(shift) > 30:
        return float(ndtr(shift - quantile))
    return float(1 - nctdtr(freedom, shift, quantile))


# Macro F1, by simulation


def _detectable_simulated(design: Design, power: float, confidence: float) -> float:
    room = _room(design)
    if design.truth is not None:
        effect = float(np.quantile(_reach(design, design.truth, confidence), power))
    else:
        # The interval's width depends on where the truth lies, and that on the width.
        effect = 0.0
        for _ in range(8):
            truth, _target = _ends(design, min(effect, room))
            previous, effect = effect, float(np.quantile(_reach(design, truth, confidence), power))
            if abs(effect - previous) < 0.01 * effect or min(effect, previous) >= room:
                break
    if effect >= room:
        raise StatisticsError(
            f"{design.n} examples decide no effect with {100 * power:.3g} % power at confidence {confidence:g}, not "
            f"even {room:.3g}, the largest there can be. Add examples, or ask for less confidence."
        )
    return effect


def _needed_simulated(design: Design, margin: float, power: float, confidence: float) -> int:
    truth, _target = _ends(design, margin)
    # No label may run out of examples.
    least = math.ceil(2 * design.n / min(design.support))
    n = min(design.n, _LARGEST_SIMULATED)
    for _ in range(4):
        reach = float(np.quantile(_reach(_sized(design, n), truth, confidence), power))
        wanted = max(least, math.ceil(n * (reach / margin) ** 2))
        if wanted > _MOST_EXAMPLES:
            raise _unreachable(margin, power)
        if abs(wanted - n) <= 0.03 * n or min(n, wanted) >= _LARGEST_SIMULATED:
            return wanted
        n = min(wanted, _LARGEST_SIMULATED)
    return wanted


@lru_cache(maxsize=256)
def _reach(design: Design, truth: float, confidence: float) -> Floats:
    """(test sets,) how far from the truth each simulated interval ends, on the side of the target."""
    k = len(design.support)
    labels = [str(index) for index in range(k)]
    rows = np.repeat(np.arange(k), design.support)
    clusters = None
    if design.groups is not None:
        clusters = np.random.default_rng(_SEED).permutation(design.n) * design.groups // design.n
    errors = _error_pattern(k)
    if design.paired:
        baseline = _accuracy_for(design.level, design.support)
        candidate = _accuracy_for(design.level + truth, design.support)
        gain = candidate - baseline
        wins = min(max((max(abs(gain), design.discordance or 0.0) + gain) / 2, gain), 1 - baseline)
        losses = min(wins - gain, baseline)
        level = confidence * 2 - 1
    else:
        baseline, wins, losses, level = _accuracy_for(truth, design.support), 0.0, 0.0, confidence
    # In one order: both right, only the baseline, only the candidate, none.
    ends = np.cumsum([baseline - losses, losses, wins])
    found = np.empty(_TEST_SETS)
    for index in range(_TEST_SETS):
        # The same draws for every truth, so that what is compared differs in the truth alone.
        rng, resampling = (np.random.default_rng((_SEED, index, part)) for part in (0, 1))
        case = np.searchsorted(ends, _uniform(design, clusters, rng), side="right")
        wrong = _choices(errors[rows], rng)
        ours = np.where((case == 0) | (case == 2), rows, wrong)
        theirs = np.where(case <= 1, rows, wrong)
        columns = [ours, theirs] if design.paired else [ours]
        estimate = bootstrap_interval("macro_f1", rows, columns, labels, clusters, resampling, _RESAMPLES).at(level)
        found[index] = truth - estimate.low if design.direction == "above" else estimate.high - truth
    found.setflags(write=False)
    return found


def _uniform(design: Design, clusters: Integers | None, rng: np.random.Generator) -> Floats:
    own = rng.random(design.n)
    if clusters is None:
        return own
    # Two examples of a group both take the group's draw with the chance that makes them correlate as asked.
    shared = rng.random(int(clusters.max()) + 1)[clusters]
    return np.where(rng.random(design.n) < math.sqrt(design.correlation), shared, own)


def _error_pattern(k: int) -> Floats:
    """(k, k) which label a wrong answer names: half of them the next one, half any other."""
    pattern = np.full((k, k), 0.5 / (k - 1))
    pattern[np.arange(k), (np.arange(k) + 1) % k] += 0.5
    np.fill_diagonal(pattern, 0.0)
    normalised: Floats = pattern / pattern.sum(axis=1, keepdims=True)
    return normalised


def _choices(shares: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    ends = np.cumsum(shares, axis=1)
    ends[:, -1] = 1.0
    return np.asarray((rng.random(len(shares))[:, None] >= ends).sum(axis=1), dtype=np.int64)


def _accuracy_for(macro_f1: float, support: tuple[int, ...]) -> float:
    """The share of right answers, the same for every label, at which the expected matrix has this macro F1."""
    k = len(support)
    counts, pattern, labels = np.array(support, dtype=np.float64), _error_pattern(k), [str(i) for i in range(k)]
    if not 0 <= macro_f1 <= 1:
        raise StatisticsError(
            f"a macro F1 of {macro_f1:g} cannot be: the baseline's level and the difference do not fit together"
        )
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        expected = (middle * np.eye(k) + (1 - middle) * pattern) * counts[:, None]
        above = float(statistic("macro_f1", expected[None], labels)[0]) > macro_f1
        low, high = (low, middle) if above else (middle, high)
    return (low + high) / 2
