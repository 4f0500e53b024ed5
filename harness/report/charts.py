"""Where the marks of a chart lie, in percent of its width and height. The templates only draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from harness.records import RuleKind, TrainingSummary, Verdict
from harness.report.wording import VERDICT_WORDS, digits_of, interval, number, signed, target, typographic, view_title

__all__ = ["IntervalBar", "LossCurve", "TrendChart", "interval_bar", "loss_curve", "trend_chart"]

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
# More points than a chart is wide only make the file larger.
_MOST_POINTS = 240
# Sums and differences of larger numbers could overflow.
_LARGEST = 1e100
# Room for the marks at both ends, in percent.
_EDGE = 2.0


class Mark(NamedTuple):
    """at: percent from the left. anchor: how its label is aligned, so that it stays inside."""

    at: float
    label: str
    anchor: str


class IntervalBar(NamedTuple):
    """An estimate, its interval and its bar on one scale.

    zone: from and to of the part of the scale that meets the rule, or None where the rule does not say.
    title: all of it in words, for those who do not see the drawing.
    """

    estimate: float
    low: float | None
    high: float | None
    target: Mark | None
    zone: tuple[float, float] | None
    ends: tuple[Mark, ...]
    zero: float | None
    title: str


class Series(NamedTuple):
    """points: "x,y x,y ..." for a polyline in a box of 100 by 100. last: position of the last point."""

    points: str
    dots: tuple[tuple[float, float], ...]
    last: tuple[float, float]
    label: str


class LossCurve(NamedTuple):
    """x_ticks and y_ticks: (percent, label). averaged: training steps behind a drawn point."""

    training: Series | None
    validation: Series | None
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    averaged: int
    title: str


def interval_bar(verdict: Verdict) -> IntervalBar | None:
    """The drawing of a gate: the measure against its threshold, or the difference against its margin.

    None where nothing was measured, where the rule is on single examples, and for numbers that no scale of a
    chart could hold.
    """
    if verdict.kind is RuleKind.MUST_PASS:
        return None
    compared = verdict.compared_with is not None
    value = verdict.difference if compared else verdict.value
    low = verdict.difference_low if compared else verdict.low
    high = verdict.difference_high if compared else verdict.high
    if value is None:
        return None
    if low is None or high is None:
        low = high = None
    bar = target(verdict)
    digits = digits_of(verdict.measure)
    numbers = [x for x in (value, low, high, bar) if x is not None]
    if max(map(abs, numbers)) > _LARGEST:
        return None
    possible = _possible(verdict, numbers)
    left, right = _difference_scale(numbers, possible) if compared else _value_scale(numbers, possible)

    def at(x: float) -> float:
        return round(_EDGE + (100 - 2 * _EDGE) * (x - left) / (right - left), 2)

    def mark(x: float, label: str) -> Mark:
        place = at(x)
        return Mark(place, label, "start" if place < 12 else "end" if place > 88 else "middle")

    write = signed if compared else number
    ends = [mark(left, _tick(left, plus=compared)), mark(right, _tick(right, plus=compared))]
    if compared:
        ends.insert(1, mark(0.0, "0"))
    return IntervalBar(
        estimate=at(value),
        low=None if low is None else at(low),
        high=None if high is None else at(high),
        target=None if bar is None else mark(bar, typographic(write(bar, digits))),
        zone=_zone(verdict, None if bar is None else at(bar), at, (left, right)),
        ends=tuple(ends),
        zero=at(0.0) if compared else None,
        title=_words(verdict, value, low, high, (left, right)),
    )


def _zone(
    verdict: Verdict, bar: float | None, at: Callable[[float], float], scale: tuple[float, float]
) -> tuple[float, float] | None:
    """From where to where the rule is met: above the bar, or between the thresholds as far as the scale goes."""
    if bar is None:
        return None
    if verdict.kind is not RuleKind.THRESHOLD:
        return (bar, 100 - _EDGE)
    if verdict.at_least is None and verdict.at_most is None:
        return None
    ends = [at(scale[0]), at(scale[1])]
    for k, threshold in enumerate((verdict.at_least, verdict.at_most)):
        if threshold is not None:
            ends[k] = at(min(max(threshold, scale[0]), scale[1]))
    return (ends[0], ends[1]) if ends[0] <= ends[1] else None


def _possible(verdict: Verdict, numbers: Sequence[float]) -> tuple[float, float] | None:
    """What the chart's numbers can be at all, or None where that has no end or the numbers are not within it."""
    lowest, highest = verdict.lowest, verdict.highest
    if lowest is None or highest is None or not -_LARGEST < lowest < highest < _LARGEST:
        return None
    if verdict.compared_with is not None:
        lowest, highest = lowest - highest, highest - lowest
    return (lowest, highest) if all(lowest <= x <= highest for x in numbers) else None


def _value_scale(numbers: Sequence[float], possible: tuple[float, float] | None) -> tuple[float, float]:
    if possible is not None:
        return possible
    lowest, highest = min(0.0, *numbers), max(0.0, *numbers)
    room = 0.1 * (highest - lowest)
    return (lowest - room if lowest < 0 else 0.0), (highest + room if highest > 0 else 0.0)


def _difference_scale(numbers: Sequence[float], possible: tuple[float, float] | None) -> tuple[float, float]:
    """As far to the left as to the right of zero, so that a loss looks like a loss; no further than possible."""
    widest = 1.1 * max(abs(x) for x in numbers)
    reach = next((step for step in _STEPS if step >= widest), widest)
    return (-reach, reach) if possible is None or reach < possible[1] else possible


def _tick(x: float, *, plus: bool = False) -> str:
    text = f"{x:.3g}"
    return typographic(f"+{text}" if plus and x > 0 else text)


def _words(verdict: Verdict, value: float, low: float | None, high: float | None, scale: tuple[float, float]) -> str:
    digits = digits_of(verdict.measure)
    write = number if verdict.compared_with is None else signed
    what = "Estimate"
    if verdict.compared_with is not None:
        what = f"Difference to {view_title(verdict.compared_with)}"
    parts = [f"{what} {write(value, digits)}"]
    if low is not None and high is not None:
        parts.append(f"interval {write(low, digits)} to {write(high, digits)}")
    parts.append(f"on a scale from {_tick(scale[0])} to {_tick(scale[1])}")
    return f"{', '.join(parts)}. Rule: {verdict.rule}. Verdict: {VERDICT_WORDS[verdict.outcome]}."


def loss_curve(training: TrainingSummary) -> LossCurve | None:
    """Training and validation loss by step; None where neither was recorded, or beyond any scale."""
    points = [*training.loss, *training.validation_loss]
    if not points or max(abs(loss) for _, loss in points) > _LARGEST:
        return None
    last_step = max(1, *(step for step, _ in points))
    losses = [loss for _, loss in points]
    bottom, top, ticks = _loss_axis(min(losses), max(losses))
    averaged = math.ceil(len(training.loss) / _MOST_POINTS) or 1

    def place(step: float, loss: float) -> tuple[float, float]:
        return round(100 * step / last_step, 2), round(100 * (top - loss) / (top - bottom), 2)

    def series(points: Sequence[tuple[float, float]], label: str, *, dots: bool) -> Series | None:
        if not points:
            return None
        places = tuple(place(*point) for point in points)
        line = " ".join(f"{x:g},{y:g}" for x, y in places)
        return Series(line, places if dots or len(places) == 1 else (), places[-1], label)

    words = []
    for label, recorded in (("Training", training.loss), ("Validation", training.validation_loss)):
        if recorded:
            (first_step, first), (step, loss) = recorded[0], recorded[-1]
            words.append(f"{label} loss {first:.3f} at step {first_step}, {loss:.3f} at step {step}.")
    return LossCurve(
        training=series(_averages(training.loss, averaged), "training", dots=False),
        validation=series(training.validation_loss, "validation", dots=True),
        x_ticks=((0.0, "0"), (50.0, f"{last_step / 2:,g}"), (100.0, f"{last_step:,}")),
        y_ticks=tuple((place(0, tick)[1], f"{tick:g}") for tick in ticks),
        averaged=averaged,
        title=" ".join(words),
    )


def _averages(points: Sequence[tuple[int, float]], size: int) -> list[tuple[float, float]]:
    """Each `size` points in a row as one: the last one's step, the mean of their losses."""
    runs = [points[k : k + size] for k in range(0, len(points), size)]
    return [(run[-1][0], math.fsum(loss for _, loss in run) / len(run)) for run in runs]


def _loss_axis(lowest: float, highest: float) -> tuple[float, float, list[float]]:
    """From zero (or the lowest loss, if below) to a round number above the highest, in 2 to 5 steps."""
    lowest = min(0.0, lowest)
    span = highest - lowest or 1.0
    size = 10.0 ** math.floor(math.log10(span))
    step = next(m * size for m in (0.25, 0.5, 1.0, 2.5) if span / (m * size) <= 5)
    first, last = math.floor(lowest / step), max(1, math.ceil(highest / step))
    ticks = [round(k * step, 12) for k in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


class TrendPlace(NamedTuple):
    """A run in a trend: its place, and what it says in words."""

    x: float
    y: float
    title: str


class TrendChart(NamedTuple):
    """Places are percent from the left and from the top.

    bands, lines: "x,y x,y ..." each, of runs in a row that have an interval, or a value. bar: a threshold or margin.
    """

    bands: tuple[str, ...]
    lines: tuple[str, ...]
    places: tuple[TrendPlace, ...]
    bar: float | None
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def trend_chart(
    values: Sequence[tuple[str, str, float | None, float | None, float | None]], bar: float | None, digits: int
) -> TrendChart | None:
    """The drawing of a measure over runs, oldest first, or None where there is nothing that a scale could hold.

    values: of each run what to call it, its date, value, low and high. They stand side by side, as far apart whatever
    the time between them. bar: the threshold or margin.
    """
    numbers = [x for _, _, *found in values for x in found if x is not None]
    if not numbers or max(map(abs, numbers)) > _LARGEST:
        return None
    if bar is not None and abs(bar) <= _LARGEST:
        numbers.append(bar)
    else:
        bar = None
    bottom, top, ticks = _near_axis(min(numbers), max(numbers))

    def x_of(number: int) -> float:
        return round(100 * (number + 0.5) / len(values), 2)

    def y_of(value: float) -> float:
        return round(100 * (top - value) / (top - bottom), 2)

    rows = [(x_of(k), value, low, high) for k, (_, _, value, low, high) in enumerate(values)]
    bands = []
    for part in _without_gaps(rows, lambda row: row[2] is not None and row[3] is not None):
        upper = [f"{x:g},{y_of(high):g}" for x, _, _, high in part if high is not None]
        lower = [f"{x:g},{y_of(low):g}" for x, _, low, _ in reversed(part) if low is not None]
        bands.append(" ".join([*upper, *lower]))
    lines = [
        " ".join(f"{x:g},{y_of(value):g}" for x, value, _, _ in part if value is not None)
        for part in _without_gaps(rows, lambda row: row[1] is not None)
    ]
    places = [
        TrendPlace(x, y_of(value), f"{name}: {number(value, digits)} {interval(low, high, digits)}".rstrip())
        for (x, value, low, high), (name, *_) in zip(rows, values, strict=True)
        if value is not None
    ]
    dated = sorted({0, (len(values) - 1) // 2, len(values) - 1})
    return TrendChart(
        tuple(bands),
        tuple(lines),
        tuple(places),
        None if bar is None else y_of(bar),
        tuple((x_of(run), values[run][1]) for run in dated),
        tuple((y_of(at), typographic(f"{at:g}")) for at in ticks),
    )


_Row = tuple[float, float | None, float | None, float | None]


def _without_gaps(rows: Sequence[_Row], there: Callable[[_Row], bool]) -> list[list[_Row]]:
    """The rows in stretches without one that is missing."""
    return [list(part) for known, part in groupby(rows, key=there) if known]


def _near_axis(lowest: float, highest: float) -> tuple[float, float, list[float]]:
    """From a round number below all values to one above, in 2 to 5 steps."""
    span = highest - lowest or max(abs(highest), 1.0) / 10
    size = 10.0 ** math.floor(math.log10(span))
    step = next(m * size for m in (0.25, 0.5, 1.0, 2.5) if span / (m * size) < 4.001)
    first, last = math.floor(round(lowest / step, 6)), math.ceil(round(highest / step, 6))  # 0.6 / 0.1 is below 6
    if first == last:
        first, last = first - 1, last + 1
    ticks = [round(k * step, 12) for k in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks
