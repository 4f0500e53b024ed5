"""How often a gate is wrong: simulated test sets with a known truth, decided by `harness.gates.decide`.

    python benchmarks/error_rates.py                           # all rules, 2,000 test sets each: some minutes
    python benchmarks/error_rates.py --rule max_drop --n 60    # one size of the rules whose name has that
    python benchmarks/error_rates.py --runs 200                # a quick look

For each rule, size and true value: how often it passes and fails, beside what is allowed (at most 5 % passes where
the truth is on the wrong side) or promised (the power that `statistics.power` plans); how often 95 % intervals hold
the truth; what stopping early saves, and how often it passes wrongly at any moment; and an adapter against itself.
Prints Markdown to stdout and progress to stderr. Exit status 0 means that it ran, whatever it found.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy
from _common import ROOT, add_date, machine_line, table
from numpy.typing import NDArray

from harness import statistics
from harness.gates import Take, decide, decide_early, in_words, informative
from harness.gates.parts import restricted
from harness.records import ADAPTER, BASE, Outcome, Rule, Scores
from harness.statistics import Design, bootstrap
from harness.statistics.confusion import statistic

RUNS = 2000
RESAMPLES = 1000
SIZES = (60, 150, 500)
LEVEL = 0.05
COVERAGE = (0.935, 0.965)
POWER_POINTS = 0.05

K = 12
_LABELS = tuple(f"label_{index:02}" for index in range(K))
_DISCORDANCE = 0.15
# Of the baseline's 0/1 scores and macro F1.
_LEVEL = 0.85

Pair = tuple[Scores, Scores | None]


# ---- Test sets with a known truth


def _scores(view: str, values: NDArray[np.float64], **fields: object) -> Scores:
    n = len(values)
    ids = tuple(map(str, range(n)))
    return Scores(
        measure="simulated",
        view=view,
        ids=ids,
        values=tuple(values.tolist()),
        n_expected=n,
        **fields,  # type: ignore[arg-type]
    )


def binary(rng: np.random.Generator, n: int, truth: float) -> Pair:
    return _scores(ADAPTER, (rng.random(n) < truth).astype(float)), None


def binary_pair(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """Share of examples that only one view has right: 0.15, or the difference where that is larger."""
    discordance = max(_DISCORDANCE, abs(truth))
    wins, losses = (discordance + truth) / 2, (discordance - truth) / 2
    # Both right, only the adapter, only the base, none.
    case = rng.choice(4, size=n, p=(0.8 * (1 - wins - losses), wins, losses, 0.2 * (1 - wins - losses)))
    return _scores(ADAPTER, (case <= 1).astype(float)), _scores(BASE, ((case == 0) | (case == 2)).astype(float))


def graded(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """Grades 1 to 5, skewed as a judge's are."""
    return _scores(ADAPTER, 1.0 + rng.binomial(4, (truth - 1) / 4, size=n), bounds=(1.0, 5.0)), None


def graded_pair(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """Half of the grades differ, by one."""
    base = rng.integers(2, 5, size=n).astype(float)
    step = rng.choice((-1.0, 0.0, 1.0), size=n, p=(0.25 - truth / 2, 0.5, 0.25 + truth / 2))
    return _scores(ADAPTER, base + step, bounds=(1.0, 5.0)), _scores(BASE, base, bounds=(1.0, 5.0))


def _named(indices: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(_LABELS[index] for index in indices)


def _labelled(view: str, truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> Scores:
    return _scores(
        view,
        (truth == predicted).astype(float),
        statistic="macro_f1",
        truth=_named(truth),
        predicted=_named(predicted),
        labels=_LABELS,
    )


def _wrong(truth: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return (truth + rng.integers(1, K, size=len(truth))) % K


def labelled(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """Balanced labels, equally hard, errors spread evenly: then macro F1 is the accuracy of the population."""
    rows = np.arange(n) % K
    return _labelled(ADAPTER, rows, np.where(rng.random(n) < truth, rows, _wrong(rows, rng))), None


def _labelled_pair(rng: np.random.Generator, n: int, wins: float, losses: NDArray[np.float64]) -> Pair:
    """wins: share of examples that only the adapter has right; losses: (k,) only the base, label by label."""
    rows, wrong = np.arange(n) % K, _wrong(np.arange(n) % K, rng)
    draw = rng.random(n)
    only_base = draw < losses[rows]
    both = (draw >= losses[rows]) & (draw < _LEVEL)
    only_adapter = (draw >= _LEVEL) & (draw < _LEVEL + wins)
    ours = np.where(both | only_adapter, rows, wrong)
    return _labelled(ADAPTER, rows, ours), _labelled(BASE, rows, np.where(both | only_base, rows, wrong))


def labelled_pair(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """As `labelled`, with a baseline at 0.85 and 0.15 of the examples right in only one of the views."""
    discordance = max(_DISCORDANCE, abs(truth))
    wins = min((discordance + truth) / 2, 1 - _LEVEL)
    return _labelled_pair(rng, n, wins, np.full(K, wins - truth))


def _on_two_labels(wins: float, losses: float) -> tuple[Callable[[np.random.Generator, int, float], Pair], float]:
    """A generator whose losses all fall on two of the labels, and its true difference of macro F1."""
    by_label = np.zeros(K)
    by_label[:2] = losses * K / 2
    right = np.stack([_LEVEL - by_label + wins, np.full(K, _LEVEL)])
    expected = [np.where(np.eye(K) > 0, share[:, None], (1 - share[:, None]) / (K - 1)) for share in right]
    ours, theirs = statistic("macro_f1", np.stack(expected), _LABELS)

    def generate(rng: np.random.Generator, n: int, _truth: float) -> Pair:
        return _labelled_pair(rng, n, wins, by_label)

    return generate, float(ours - theirs)


_SEED_SPREAD = 0.03
"""Standard deviation between adapters of one recipe, of the share of examples that they have right."""


def binary_of_seeds(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """Three adapters of one recipe, each as good as the recipe is on average or a little better or worse."""
    difficulty = rng.uniform(-0.1, 0.1, n)
    adapters = [
        _scores(ADAPTER, (rng.random(n) < truth + difficulty + own).astype(float))
        for own in rng.normal(0, _SEED_SPREAD, 3)
    ]
    return replace(adapters[0], replicates=tuple(adapters)), None


def pair_of_seeds(rng: np.random.Generator, n: int, truth: float) -> Pair:
    """The same, beside a base that has 85 % right."""
    known = rng.random(n) < _LEVEL
    adapters = []
    for own in rng.normal(0, _SEED_SPREAD, 3):
        difference = truth + own
        gain = (_DISCORDANCE + difference) / 2 / (1 - _LEVEL)  # of what the base has wrong
        loss = (_DISCORDANCE - difference) / 2 / _LEVEL  # of what it has right
        drawn = rng.random(n)
        adapters.append(_scores(ADAPTER, np.where(known, drawn >= loss, drawn < gain).astype(float)))
    return replace(adapters[0], replicates=tuple(adapters)), _scores(BASE, known.astype(float))


# ---- Rules


@dataclass(frozen=True)
class Case:
    """A rule, test sets to try it on, and what is planned for it.

    effects: distances of the truth from the target, in multiples of the smallest that is planned to be decided
    with 80 % power; 0 is a truth exactly at the bar. truth: given where the test sets have one truth only, and
    effects are 0. design: of n examples at a true value, None for a rule that promises no error rate.
    """

    name: str
    rule: Rule
    generate: Callable[[np.random.Generator, int, float], Pair]
    design: Callable[[int, float], Design] | None
    effects: tuple[float, ...] = (-0.5, 0.0, 0.5, 1.0, 1.25)
    coverage: tuple[float, ...] = (0.0, 1.0)

    @property
    def target(self) -> float:
        rule = self.rule
        if rule.max_drop is not None:
            return 0.0 - rule.max_drop
        number = rule.min_gain if rule.min_gain is not None else rule.at_least
        assert number is not None
        return number


def _support(n: int) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(np.arange(n) % K, minlength=K))


def _at_least(number: float) -> Rule:
    return Rule(at_least=number, decide="confident")


def _compared(**margin: float) -> Rule:
    return Rule(compared_with=BASE, decide="confident", **margin)


def _graded_spread(mean: float) -> float:
    share = (mean - 1) / 4
    return math.sqrt(4 * share * (1 - share))


def cases() -> list[Case]:
    """Every rule that is tried. Macro F1 has fewer true values: each of its test sets costs a bootstrap or two."""
    found = [
        Case(
            "at_least by point, 0/1",
            Rule(at_least=0.8, decide="point"),
            binary,
            None,
            coverage=(),
        ),
        Case(
            "at_least confident, 0/1",
            _at_least(0.8),
            binary,
            lambda n, _truth: Design("proportion", n, target=0.8),
        ),
        Case(
            "at_least confident, grades 1-5",
            _at_least(3.8),
            graded,
            lambda n, truth: Design("mean", n, target=3.8, bounds=(1.0, 5.0), spread=_graded_spread(truth)),
        ),
        Case(
            "at_least confident, macro F1",
            _at_least(0.8),
            labelled,
            lambda n, _truth: Design("macro_f1", n, target=0.8, support=_support(n)),
            effects=(0.0, 1.0),
        ),
        Case(
            "at_least confident, 0/1, 3 seeds",
            _at_least(0.8),
            binary_of_seeds,
            lambda n, _truth: Design("proportion", n, target=0.8),
            effects=(0.0,),
            coverage=(),
        ),
        Case(
            "max_drop confident, 0/1, 3 seeds",
            _compared(max_drop=0.05),
            pair_of_seeds,
            lambda n, _truth: Design("paired_proportions", n, target=-0.05, discordance=_DISCORDANCE),
            effects=(0.0,),
            coverage=(),
        ),
    ]
    for words, margins in (("max_drop", {"max_drop": 0.05}), ("min_gain", {"min_gain": 0.05})):
        target = -0.05 if words == "max_drop" else 0.05
        found.append(
            Case(
                f"{words} confident, 0/1",
                _compared(**margins),
                binary_pair,
                lambda n, _truth, target=target: Design(
                    "paired_proportions", n, target=target, discordance=_DISCORDANCE
                ),
            )
        )
        found.append(
            Case(
                f"{words} confident, grades 1-5",
                _compared(**{words: 0.2}),
                graded_pair,
                lambda n, truth, target=4 * target: Design(
                    "paired_mean",
                    n,
                    target=target,
                    bounds=(1.0, 5.0),
                    spread=math.sqrt(0.5 - truth**2),
                    discordance=0.5,
                ),
            )
        )
        found.append(
            Case(
                f"{words} confident, macro F1",
                _compared(**margins),
                labelled_pair,
                lambda n, _truth, target=target: Design(
                    "paired_macro_f1", n, target=target, discordance=_DISCORDANCE, level=_LEVEL, support=_support(n)
                ),
                effects=(0.0, 1.0) if words == "max_drop" else (0.0,),
                coverage=(0.0,),
            )
        )
    for words, wins, losses in (("", 0.03, 0.08), (", few", 0.02, 0.02)):
        generate, truth = _on_two_labels(wins, losses)
        found.append(
            Case(
                f"max_drop confident, macro F1, losses on 2 labels{words}",
                _compared(max_drop=-truth),
                generate,
                lambda n, _truth, target=truth: Design("paired_macro_f1", n, target=target, support=_support(n)),
                effects=(0.0,),
                coverage=(),
            )
        )
    return found


# ---- Simulating


class Rates(NamedTuple):
    """What came of one rule on test sets of one size and truth.

    passed, failed, incomplete: shares of runs; the rest was inconclusive. promised: power as planned, None where
    the truth is not on the passing side. held: share of 95 % intervals that hold the truth, None if not asked.
    """

    case: str
    rule: str
    n: int
    truth: float
    target: float
    runs: int
    passed: float
    failed: float
    incomplete: float
    promised: float | None
    held: float | None


def chance(share: float, runs: int) -> float:
    """Two standard errors of a simulated share."""
    return 2 * math.sqrt(share * (1 - share) / runs)


def truths(case: Case, n: int) -> list[tuple[float, float | None]]:
    """The true values to try on n examples, each with the power that is planned there."""
    if case.design is None:
        return [(case.target + step, None) for step in (-0.1, -0.05, 0.0, 0.05, 0.1)]
    if case.effects == (0.0,):
        return [(case.target, None)]
    smallest = statistics.detectable(case.design(n, case.target))
    found = []
    for effect in case.effects:
        truth = case.target + effect * smallest
        planned = statistics.power(case.design(n, truth), effect * smallest) if effect > 0 else None
        found.append((truth, planned))
    return found


@contextlib.contextmanager
def _few_of_a_label() -> Iterator[None]:
    """A gate on macro F1 is incomplete with fewer than 10 examples of a label, as 60 of 12 labels have.

    How often it would be wrong is asked all the same: it is what the limit and the intervals are chosen by.
    """
    usual, informative.FEWEST_OF_A_LABEL = informative.FEWEST_OF_A_LABEL, 1
    try:
        yield
    finally:
        informative.FEWEST_OF_A_LABEL = usual


def simulated(
    case: Case, n: int, truth: float, *, runs: int, seed: int, promised: float | None = None, coverage: bool = False
) -> Rates:
    """Decides one rule on `runs` test sets of n examples."""
    rng = np.random.default_rng((seed, n))
    passed = failed = incomplete = held = 0
    for run in range(runs):
        scores, baseline = case.generate(rng, n, truth)
        with _few_of_a_label():
            verdict = decide(case.rule, scores, baseline, view=ADAPTER, seed=run)
        passed += verdict.outcome is Outcome.PASS
        failed += verdict.outcome is Outcome.FAIL
        incomplete += verdict.outcome is Outcome.INCOMPLETE
        if coverage:
            if baseline is None:
                estimate = statistics.estimate(scores, seed=run)
            else:
                estimate = statistics.difference(scores, baseline, seed=run)
            held += estimate.low <= truth <= estimate.high
    return Rates(
        case.name,
        in_words(case.rule),
        n,
        truth,
        case.target,
        runs,
        passed / runs,
        failed / runs,
        incomplete / runs,
        promised,
        held / runs if coverage else None,
    )


def problem(rates: Rates) -> str | None:
    """Which promise these rates break by more than simulation can explain, or None."""
    allowed = LEVEL + chance(LEVEL, rates.runs)
    found = []
    if rates.truth <= rates.target + 1e-9 and rates.passed > allowed:
        found.append(f"passes wrongly in {_percent(rates.passed)}")
    if rates.truth >= rates.target - 1e-9 and rates.failed > allowed:
        found.append(f"fails wrongly in {_percent(rates.failed)}")
    if rates.incomplete > 0:
        found.append(f"is incomplete in {_percent(rates.incomplete)}")
    if rates.promised is not None and abs(rates.passed - rates.promised) > POWER_POINTS + chance(0.8, rates.runs):
        found.append(f"has power {_percent(rates.passed)} where {_percent(rates.promised)} was planned")
    if rates.held is not None and rates.held < COVERAGE[0] - chance(0.95, rates.runs):
        found.append(f"covers in {_percent(rates.held)}")
    return "; ".join(found) or None


# ---- Stopping early


class Early(NamedTuple):
    """What stopping early does to one rule on test sets of one size and truth.

    above, below: share of runs that ever decided so, within n examples, with all of the error spent on it.
    used: mean share of the examples that were looked at. passed, failed, used_first: the same of the gate with
    early_stop=True, which spends a fifth of the error on stopping early and what is left on all n. fixed: passes of
    the rule on all n without stopping early.
    """

    case: str
    n: int
    truth: float
    target: float
    runs: int
    above: float
    below: float
    used: float
    passed: float
    failed: float
    used_first: float
    fixed: float


def taking(scores: Scores, baseline: Scores | None) -> Take:
    """Examples as a gate gets them that stops early: only those that it asks for."""

    def take(ids: Sequence[str] | None) -> tuple[Scores, Scores | None]:
        if ids is None:
            return scores, baseline
        asked = frozenset(ids)
        return restricted(scores, asked), None if baseline is None else restricted(baseline, asked)

    return take


def stopped(case: Case, n: int, truth: float, *, runs: int, seed: int, fixed: float) -> Early:
    """Takes the examples of `runs` test sets one by one and stops each when the rule is decided."""
    rng = np.random.default_rng((seed, n))
    rule = replace(case.rule, early_stop=True)
    above = below = used = passed = failed = used_first = 0
    for run in range(runs):
        scores, baseline = case.generate(rng, n, truth)
        stop = statistics.stop_early(scores, baseline, case.target, confidence=rule.confidence, seed=run)
        above += stop.decision == "above"
        below += stop.decision == "below"
        used += stop.used
        verdict = decide_early(
            rule,
            scores.ids,
            scores.groups,
            taking(scores, baseline),
            measure=scores.measure,
            view=ADAPTER,
            bounds=scores.bounds,
            seed=run,
        )
        used_first += verdict.n
        passed += verdict.outcome is Outcome.PASS
        failed += verdict.outcome is Outcome.FAIL
    counts = (above, below, used / n, passed, failed, used_first / n)
    return Early(case.name, n, truth, case.target, runs, *(count / runs for count in counts), fixed)


def early_problem(early: Early) -> str | None:
    allowed = LEVEL + chance(LEVEL, early.runs)
    found = []
    for share in (early.above, early.passed):
        if early.truth <= early.target + 1e-9 and share > allowed:
            found.append(f"passes wrongly in {_percent(share)}")
    for share in (early.below, early.failed):
        if early.truth >= early.target - 1e-9 and share > allowed:
            found.append(f"fails wrongly in {_percent(share)}")
    return "; ".join(found) or None


# ---- An adapter against itself


def against_itself(case: Case, n: int, *, runs: int, seed: int, twin: bool) -> Rates:
    """The same answers twice, or with `twin` a retrained adapter that is as good and errs elsewhere."""
    promised = statistics.power(case.design(n, 0.0), -case.target) if case.design is not None and twin else None
    if twin:
        return simulated(case, n, 0.0, runs=runs, seed=seed, promised=promised)

    def same(rng: np.random.Generator, n: int, truth: float) -> Pair:
        scores, _ = case.generate(rng, n, truth)
        return scores, replace(scores, view=BASE)

    return simulated(replace(case, generate=same), n, 0.0, runs=runs, seed=seed)


# ---- Tables


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def rates_table(rows: Iterable[Rates]) -> str:
    lines = []
    for rates in rows:
        wrong_side = rates.truth <= rates.target + 1e-9
        expected = "at most 5 %" if wrong_side else _percent(rates.promised)
        result = problem(rates) or "as promised"
        if "by point" in rates.case:
            expected, result = "", ""
        lines.append(
            (
                rates.case,
                str(rates.n),
                f"{rates.truth:.3f}",
                f"{rates.target:.3f}",
                _percent(rates.passed),
                expected,
                _percent(rates.failed),
                _percent(rates.held),
                result,
            )
        )
    heads = ("rule", "n:", "truth:", "bar:", "passes:", "promised:", "fails:", "95 % intervals hold:", "result")
    return table(heads, lines)


def early_table(rows: Iterable[Early]) -> str:
    heads = ("rule", "n:", "truth:", "bar:", "passes on all n:", "passes early:", "fails early:", "used:")
    return table(
        (*heads, "early, then all: passes:", "fails:", "used:", "result"),
        [
            (
                early.case,
                str(early.n),
                f"{early.truth:.3f}",
                f"{early.target:.3f}",
                _percent(early.fixed),
                _percent(early.above),
                _percent(early.below),
                _percent(early.used),
                _percent(early.passed),
                _percent(early.failed),
                _percent(early.used_first),
                early_problem(early) or "as promised",
            )
            for early in rows
        ],
    )


NOTES = """\
*promised*: at most 5 % where the truth is on or below the bar, else the power that `statistics.power` plans, to be
met within 5 points; all with two standard errors of the simulation on top. *fails*: at most 5 % where the truth is on
or above the bar. A threshold is decided by the two-sided interval, so 2.5 % is what to expect at the bar. By point
promises nothing: it is there to be compared with. *passes early*, *fails early*: decided so at any moment, on all of
the error allowed. *early, then all*: `gate(..., early_stop=True)`, which spends a fifth of it on stopping early, and
decides what does not stop on all n examples with the rest. *used*: mean share of the examples looked at when every run
stops as soon as it is decided."""


def run(chosen: Sequence[Case], sizes: Sequence[int], *, runs: int, seed: int) -> str:
    """All tables of the chosen rules, as the program prints them."""
    rates: list[Rates] = []
    early: list[Early] = []
    same: list[Rates] = []
    for number, case in enumerate(chosen):
        for n in sizes:
            started = time.perf_counter()
            tried = truths(case, n)
            for place, (truth, promised) in enumerate(tried):
                measured = case.effects[place] in case.coverage
                found = simulated(case, n, truth, runs=runs, seed=seed + number, promised=promised, coverage=measured)
                rates.append(found)
                if not any(word in case.name for word in ("macro", "by point", "seeds")):  # these cannot stop early
                    early.append(stopped(case, n, truth, runs=runs, seed=seed + number, fixed=found.passed))
            if case.rule.max_drop is not None and "on 2 labels" not in case.name and "seeds" not in case.name:
                same += [against_itself(case, n, runs=runs, seed=seed + number, twin=twin) for twin in (False, True)]
            print(f"{case.name}, n={n}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    parts = [rates_table(rates)]
    if early:
        parts += ["Stopping early:", early_table(early)]
    if same:
        words = ("an adapter against itself", "against one as good")
        named = [r._replace(case=f"{r.case}: {words[place % 2]}") for place, r in enumerate(same)]
        parts += ["An adapter against itself, and against another one that is as good:", rates_table(named)]
    return "\n\n".join([*parts, NOTES])


# ---- The command


def main(argv: Sequence[str]) -> int:
    from harness.pipeline.identity import provenance

    parser = argparse.ArgumentParser(prog="error_rates.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rule", default="", help="only rules whose name contains this")
    parser.add_argument("--n", type=int, action="append", choices=SIZES, help="only this size; repeatable")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"test sets for each true value ({RUNS})")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help=f"of each bootstrap ({RESAMPLES})")
    parser.add_argument("--seed", type=int, default=0, help="of the test sets (0)")
    add_date(parser)
    chosen = parser.parse_args(argv)
    known = cases()
    picked = [case for case in known if chosen.rule in case.name]
    if not picked:
        parser.error(f"--rule {chosen.rule!r} is in no rule's name; there are: {'; '.join(c.name for c in known)}")
    for name in ("runs", "resamples"):
        if getattr(chosen, name) < 20:
            parser.error(f"--{name} must be at least 20, got {getattr(chosen, name)}")
    usual, bootstrap.RESAMPLES = bootstrap.RESAMPLES, chosen.resamples
    try:
        text = run(picked, chosen.n or SIZES, runs=chosen.runs, seed=chosen.seed)
    finally:
        bootstrap.RESAMPLES = usual
    print(f"`{' '.join(['error_rates.py', *argv])}`: {chosen.runs:,} simulated test sets for each row; bootstraps with")
    print(
        f"{chosen.resamples:,} resamples, where gates use {usual:,}; numpy {np.__version__}, scipy {scipy.__version__}"
    )
    print(f"\n{machine_line(provenance(ROOT, os.environ), chosen.date)}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
