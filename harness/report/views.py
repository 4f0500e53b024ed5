"""What the templates are given: texts and positions, nothing left to compute, nothing escaped yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.records import (
    ADAPTER,
    BASE,
    PROMPTED_BASE,
    MeasureResult,
    Outcome,
    RecipeResult,
    RuleKind,
    Run,
    SeedResult,
    TrainingSummary,
    Verdict,
)
from harness.report.charts import IntervalBar, LossCurve, interval_bar, loss_curve
from harness.report.wording import (
    NOT_MEASURED,
    VERDICT_WORDS,
    check_title,
    clip,
    correction_in_words,
    digits_of,
    driver_lines,
    duration,
    failed_first,
    format_value,
    interval,
    judge_in_words,
    judge_is_fit,
    judging_in_words,
    measure_title,
    named_right,
    number,
    ordered_views,
    recipe_headline,
    recipe_is_ready,
    signed,
    slice_in_words,
    stand_in,
    target,
    typographic,
    used_in_words,
    view_title,
)

__all__ = [
    "NOT_RECORDED",
    "RecipeView",
    "all_notes",
    "fact_tables",
    "gate_counts",
    "recipe_view",
    "what_was_compared",
]

NOT_RECORDED = "not recorded"


_LONGEST_REASON = 1_000
_LARGEST_MATRIX = 40
_SAMPLE_KEYS = ("id", "prompt", "expected", "answers")


class Number(NamedTuple):
    """A number with its interval, or why there is none; `note` is to be read with it."""

    text: str
    interval: str = ""
    why: str = ""
    note: str = ""
    measured: bool = True


class GateView(NamedTuple):
    """slice: the part of the test set in words, "" for all of it. drivers: what stands behind it, titles and texts."""

    outcome: Outcome
    word: str
    title: str
    measure: str
    slice: str
    view: str
    test: str
    rule: str
    value: Number
    difference: Number | None
    compared_with: str
    baseline: str
    bar: IntervalBar | None
    reason: str
    correction: str
    warning: str
    drivers: tuple[tuple[str, str], ...]
    method: str
    used: str


class MeasureRow(NamedTuple):
    """One measure on every view. cells: a Number a view, in the order of the table's columns."""

    title: str
    name: str
    lower_is_better: bool
    cells: tuple[Number, ...]
    differences: tuple[str, ...]
    n: str
    note: str


class MeasureTable(NamedTuple):
    """views, differences: column heads. more: rows of single categories, folded."""

    views: tuple[str, ...]
    differences: tuple[str, ...]
    rows: tuple[MeasureRow, ...]
    more: tuple[MeasureRow, ...]


class Confusion(NamedTuple):
    """shade: share of the row's examples, 0 to 100, of each cell."""

    title: str
    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, int, bool], ...]], ...]


class Answer(NamedTuple):
    view: str
    text: str
    empty: bool
    as_expected: bool


class SampleView(NamedTuple):
    id: str
    prompt: str
    expected: str
    answers: tuple[Answer, ...]
    facts: tuple[tuple[str, str], ...]


class CheckView(NamedTuple):
    title: str
    passed: bool
    detail: str


class JudgeView(NamedTuple):
    """How far the judge agrees with people. text: in a sentence. rows: names and numbers."""

    text: str
    fit: bool
    rows: tuple[tuple[str, str], ...]
    confusion: Confusion | None


class FactTable(NamedTuple):
    title: str
    rows: tuple[tuple[str, str], ...]


class RecipeView(NamedTuple):
    recipe: RecipeResult
    title: str
    ready: bool
    counts: list[tuple[Outcome, str]]
    adapter: str
    gates: tuple[GateView, ...]
    integrity: tuple[CheckView, ...]
    judge: JudgeView | None
    measures: MeasureTable | None
    confusions: tuple[Confusion, ...]
    details: tuple[FactTable, ...]
    curve: LossCurve | None
    training: str
    samples: tuple[SampleView, ...]
    config: tuple[FactTable, ...]
    data: tuple[FactTable, ...]
    judging: str


def recipe_view(recipe: RecipeResult) -> RecipeView:
    confusions, details = _details(recipe.measures)
    return RecipeView(
        recipe=recipe,
        title=recipe_headline(recipe),
        ready=recipe_is_ready(recipe),
        counts=gate_counts(gate.verdict for gate in recipe.gates),
        adapter=_adapter(recipe),
        gates=tuple(_gate_view(gate.test, gate.verdict) for gate in failed_first(recipe.gates)),
        integrity=tuple(
            CheckView(check_title(check.name), check.passed, clip(check.detail, _LONGEST_REASON))
            for check in recipe.integrity
        ),
        judge=_judge_view(recipe),
        measures=_measure_table(recipe.measures),
        confusions=confusions,
        details=(*_seeds(recipe.seeds), *details),
        curve=None if recipe.training is None else loss_curve(recipe.training),
        training="" if recipe.training is None else _training(recipe.training),
        samples=tuple(_sample_view(sample) for sample in recipe.samples),
        config=fact_tables(recipe.config),
        data=fact_tables(recipe.data),
        judging=judging_in_words(recipe),
    )


def _seeds(seeds: Sequence[SeedResult]) -> tuple[FactTable, ...]:
    rows = tuple(
        (
            f"seed {one.seed}" + (", the one to promote" if one.promotable else ""),
            f"validation loss {one.validation_loss:.4f}, adapter {one.adapter_digest[:12]}",
        )
        for one in seeds
    )
    return (FactTable("Adapters, one a seed; the median on validation is the one to promote", rows),) if rows else ()


def gate_counts(verdicts: Iterable[Verdict]) -> list[tuple[Outcome, str]]:
    """Outcome and e.g. "2 failed", of the outcomes that occur, passed first."""
    outcomes = [verdict.outcome for verdict in verdicts]
    counted = ((outcome, outcomes.count(outcome)) for outcome in Outcome)
    return [(outcome, f"{count} {VERDICT_WORDS[outcome]}") for outcome, count in counted if count]


def what_was_compared(run: Run) -> str:
    """One sentence on what was measured beside what, from what is in the run."""
    views = {measure.view for recipe in run.recipes for measure in recipe.measures}
    verdicts = [gate.verdict for recipe in run.recipes for gate in recipe.gates]
    views.update(verdict.view for verdict in verdicts)
    views.update(verdict.compared_with for verdict in verdicts if verdict.compared_with)
    others = []
    if BASE in views:
        others.append("the base model as it is")
    if PROMPTED_BASE in views:
        others.append("the base model with worked examples in its prompt (prompted base)")
    others += [view_title(view) for view in ordered_views(views - {BASE, PROMPTED_BASE, ADAPTER})]
    if ADAPTER not in views or not others:
        return ""
    listed = others[0] if len(others) == 1 else f"{', '.join(others[:-1])} and {others[-1]}"
    which = "The fine-tuned adapter was" if len(run.recipes) == 1 else "Each fine-tuned adapter was"
    return f"{which} measured on the same examples as {listed}."


def all_notes(run: Run) -> Iterable[str]:
    for recipe in run.recipes:
        yield from (measure.note for measure in recipe.measures)
        yield from (gate.verdict.note for gate in recipe.gates)


def _adapter(recipe: RecipeResult) -> str:
    if recipe.adapter_digest is None:
        return "none was made"
    if recipe.from_store is None:
        return "origin not recorded"
    origin = "taken from the store, nothing was trained again" if recipe.from_store else "trained in this run"
    return origin


def _gate_view(test: str, verdict: Verdict) -> GateView:
    digits = digits_of(verdict.measure)
    compared = verdict.compared_with is not None
    bar = target(verdict)
    note = verdict.note
    value = _number_of(verdict.value, verdict.low, verdict.high, digits, note, apart_from=None if compared else bar)
    if verdict.kind is RuleKind.MUST_PASS and verdict.value is not None:
        value = Number(named_right(verdict), note=note)
    difference = None
    if compared:
        difference = _number_of(
            verdict.difference, verdict.difference_low, verdict.difference_high, digits, note, bar, plus=True
        )
    return GateView(
        outcome=verdict.outcome,
        word=VERDICT_WORDS[verdict.outcome],
        title=measure_title(verdict.measure),
        measure=verdict.measure,
        slice=slice_in_words(verdict),
        view=view_title(verdict.view),
        test=test,
        rule=typographic(verdict.rule),
        value=value,
        difference=difference,
        compared_with=view_title(verdict.compared_with or ""),
        baseline=typographic(format_value(verdict.baseline, verdict.measure)),
        bar=interval_bar(verdict),
        reason=clip(verdict.reason, _LONGEST_REASON),
        correction=correction_in_words(verdict),
        warning=clip(verdict.warning, _LONGEST_REASON),
        drivers=tuple((title, typographic(text)) for title, text in driver_lines(verdict)),
        method=verdict.method,
        used=used_in_words(verdict),
    )


def _number_of(
    value: float | None,
    low: float | None,
    high: float | None,
    digits: int,
    note: str,
    apart_from: float | None = None,
    *,
    plus: bool = False,
) -> Number:
    if value is None:
        return Number(NOT_MEASURED, note=note, measured=False)
    write = signed if plus else number
    text = write(value, digits, apart_from=apart_from)
    return Number(typographic(text), typographic(interval(low, high, digits, plus=plus)), note=note)


def _measure_table(measures: Iterable[MeasureResult]) -> MeasureTable | None:
    by_name: dict[str, dict[str, MeasureResult]] = {}
    for measure in measures:
        by_name.setdefault(measure.name, {})[measure.view] = measure
    if not by_name:
        return None
    views = ordered_views(view for by_view in by_name.values() for view in by_view)
    others = [view for view in views if view != ADAPTER] if ADAPTER in views else []
    rows = [(name, _measure_row(name, by_view, views, others)) for name, by_view in by_name.items()]
    # What a suite gates by category has a row for each: a dozen rows that hide the three that matter.
    families = [name.partition("[")[0] for name, _ in rows if "[" in name]
    folded = {family for family in families if families.count(family) > 3}
    return MeasureTable(
        views=tuple(view_title(view) for view in views),
        differences=tuple(view_title(view) for view in others),
        rows=tuple(row for name, row in rows if "[" not in name or name.partition("[")[0] not in folded),
        more=tuple(row for name, row in rows if "[" in name and name.partition("[")[0] in folded),
    )


def _measure_row(name: str, by_view: Mapping[str, MeasureResult], views: list[str], others: list[str]) -> MeasureRow:
    digits = digits_of(name)
    notes = {measure.note for measure in by_view.values() if measure.value is not None}
    shared = next(iter(notes)) if len(notes) == 1 else ""
    cells = []
    for view in views:
        measure = by_view.get(view)
        if measure is None:
            cells.append(Number("not asked for", measured=False))
        elif measure.value is None:
            why = measure.note or "the run does not say why"
            cells.append(Number(NOT_MEASURED, why=clip(why, _LONGEST_REASON), measured=False))
        else:
            # A note that all views share is written out once, beside the name; its mark stays at the number.
            note = measure.note if measure.note != shared else ("stand-in judge" if stand_in(shared) else "")
            if measure.n_unscored:
                unscored = f"{measure.n_unscored} of {measure.n + measure.n_unscored} not scored"
                note = f"{unscored}; {note}" if note else unscored
            cells.append(_number_of(measure.value, measure.low, measure.high, digits, note))
    adapter = by_view.get(ADAPTER)
    differences = []
    for view in others:
        other = by_view.get(view)
        if adapter is None or adapter.value is None or other is None or other.value is None:
            differences.append("")
        else:
            differences.append(typographic(signed(adapter.value - other.value, digits)))
    counts = sorted({measure.n for measure in by_view.values()})
    return MeasureRow(
        title=measure_title(name),
        name=name,
        lower_is_better=name.endswith(("_loss", "_error")),
        cells=tuple(cells),
        differences=tuple(differences),
        n=" to ".join(f"{count:,}" for count in dict.fromkeys(counts[:1] + counts[-1:])),
        note=shared,
    )


def _details(measures: Iterable[MeasureResult]) -> tuple[tuple[Confusion, ...], tuple[FactTable, ...]]:
    confusions: list[Confusion] = []
    tables: list[FactTable] = []
    for measure in measures:
        rest = dict(measure.details)
        title = f"{measure_title(measure.name)}, {view_title(measure.view)}"
        confusion = _confusion(title, rest.get("confusion_matrix"))
        if confusion is not None:
            confusions.append(confusion)
            del rest["confusion_matrix"]
        if rest:
            tables.append(FactTable(title, tuple(_flat(rest))))
    return tuple(confusions), tuple(tables)


def _confusion(title: str, matrix: object) -> Confusion | None:
    """A matrix of the form {"labels": [...], "counts": [[...]]}; None for anything else."""
    if not isinstance(matrix, Mapping):
        return None
    labels, counts = matrix.get("labels"), matrix.get("counts")
    if not isinstance(labels, list | tuple) or not isinstance(counts, list | tuple):
        return None
    if not 0 < len(labels) == len(counts) <= _LARGEST_MATRIX:
        return None
    for row in counts:
        if not isinstance(row, list | tuple) or len(row) != len(labels):
            return None
        if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in row):
            return None
    rows = []
    for i, row in enumerate(counts):
        total = sum(row) or 1
        cells = tuple((count, round(100 * count / total), i == j) for j, count in enumerate(row))
        rows.append((str(labels[i]), cells))
    return Confusion(title, tuple(map(str, labels)), tuple(rows))


_JUDGE_ROWS = {
    "kappa": "Weighted kappa of the overall grade",
    "spearman": "Spearman's rank correlation",
    "length_bias": "Grades added for twice the words",
}


def _judge_view(recipe: RecipeResult) -> JudgeView | None:
    text = judge_in_words(recipe)
    if not text:
        return None
    known = recipe.calibration
    criteria = known.get("by_criterion")
    figures = [(title, known[key]) for key, title in _JUDGE_ROWS.items() if key in known]
    if isinstance(criteria, Mapping):
        figures += [(f"Weighted kappa of {name}", kappa) for name, kappa in criteria.items()]
    rows = [(title, _judge_figure(figure)) for title, figure in figures]
    drift = known.get("drift")
    if isinstance(drift, Mapping):
        rows += [(f"Drift: {name.replace('_', ' ')}", value) for name, value in _flat(drift)]
    confusion = _confusion("Overall grades", known.get("confusion_matrix"))
    return JudgeView(text, judge_is_fit(recipe), tuple(rows), confusion)


def _judge_figure(figure: object) -> str:
    if not isinstance(figure, Mapping):
        return "not defined"
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if not all(isinstance(part, int | float) for part in (value, low, high)):
        return NOT_RECORDED
    return typographic(f"{number(value, 2)} {interval(low, high, 2)}")  # type: ignore[arg-type]


def _training(training: TrainingSummary) -> str:
    sentences = [
        f"{training.steps:,} of {training.max_steps:,} steps in {duration(training.seconds)}, "
        f"{training.tokens:,} tokens."
    ]
    if training.validation_loss:
        step, last = training.validation_loss[-1]
        best_step, best = min(training.validation_loss, key=lambda point: point[1])
        if best < last:
            sentences.append(
                f"Validation loss was lowest at step {best_step:,} ({best:.3f}) and {last:.3f} at the end: "
                "training further did not help."
            )
        else:
            sentences.append(f"Validation loss {last:.3f} at step {step:,}, the lowest of the training.")
    return " ".join(sentences)


def _sample_view(sample: Mapping[str, Any]) -> SampleView:
    answers = sample.get("answers")
    by_view = answers if isinstance(answers, Mapping) else {}
    expected = sample.get("expected")
    facts = {key: value for key, value in sample.items() if key not in _SAMPLE_KEYS}
    return SampleView(
        id=_shown(sample.get("id")),
        prompt=_shown(sample.get("prompt")),
        expected=_shown(expected),
        answers=tuple(_answer(view, by_view[view], expected) for view in ordered_views(by_view)),
        facts=tuple(_flat(facts)),
    )


def _answer(view: str, text: object, expected: object) -> Answer:
    shown = _shown(text)
    same = isinstance(text, str) and isinstance(expected, str) and text.strip() == expected.strip()
    return Answer(view_title(view), shown, not shown.strip(), same)


def fact_tables(mapping: Mapping[str, Any]) -> tuple[FactTable, ...]:
    """A mapping as tables of dotted names and values: one of what is plain, one for each part."""
    plain = {key: value for key, value in mapping.items() if not isinstance(value, Mapping)}
    parts = [(key, value) for key, value in sorted(mapping.items()) if isinstance(value, Mapping)]
    tables = [FactTable("", tuple(_flat(plain)))] if plain else []
    return (*tables, *(FactTable(key, tuple(_flat(value))) for key, value in parts))


def _flat(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Dotted name and text of every leaf, in order. A stack, not recursion: the depth is not ours."""
    rows: list[tuple[str, str]] = []
    stack: list[tuple[str, Any]] = [(key, mapping[key]) for key in sorted(mapping, reverse=True)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping) and value:
            stack += [(f"{name}.{key}", value[key]) for key in sorted(value, reverse=True)]
        elif isinstance(value, list | tuple) and any(isinstance(x, Mapping | list | tuple) for x in value):
            stack += [(f"{name}[{k}]", value[k]) for k in reversed(range(len(value)))]
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(_shown, value)) or "none"))
        else:
            rows.append((name, _shown(value)))
    return rows


def _shown(value: object) -> str:
    if value is None:
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {text}" for key, text in _flat(value)) or "none"
    if isinstance(value, list | tuple):
        return "\n\n".join(map(_shown, value))
    return str(value)
