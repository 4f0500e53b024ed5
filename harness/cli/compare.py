"""`harness compare`: what changed between two runs, on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.history import add_store, commit_in_words, record_of, short, store_of, when
from harness.cli.output import Output
from harness.cli.usage import OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.pipeline.comparison import GatePair, MeasureChange, RecipeChange
    from harness.records import RecipeResult, Run

__all__ = ["declare"]

_LONGEST_NAME = 44
_MOST_EXAMPLES = 5
_CONFIDENCE = 0.95


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two runs on the same examples",
        description="Print for each recipe that two runs have in common which gates changed, the difference of each "
        "measure paired by example with its 95 %% interval, and the examples that turned wrong or right.",
        allow_abbrev=False,
    )
    parser.add_argument("before", metavar="A", help="the run before: its id, the beginning of one, or latest")
    parser.add_argument("after", metavar="B", help="the run after, named in the same way")
    parser.add_argument("--recipe", metavar="NAME", help="only this recipe")
    parser.add_argument("--json", action="store_true", help="print JSON, with all examples that changed")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.pipeline.comparison import compare_recipe, compared_recipes
    from harness.pipeline.history import commit_of

    root = store_of(arguments)
    before, after = record_of(root, arguments.before), record_of(root, arguments.after)
    names = compared_recipes(before[1], after[1])
    if not names or (arguments.recipe is not None and arguments.recipe not in names):
        which = f"the recipe {arguments.recipe!r}" if names else "a recipe"
        having = "; ".join(f"{run.run_id} has {_names(run)}" for _, run in (before, after))
        raise CommandError(f"the two runs do not both have {which}: {having}")
    changes = [
        compare_recipe(name, before, after, confidence=_CONFIDENCE)
        for name in names
        if arguments.recipe in (None, name)
    ]
    if arguments.json:
        output.values(_form(before[1], after[1], changes))
        return OK
    for title, one in (("A", before[1]), ("B", after[1])):
        commit = commit_in_words(*commit_of(one))
        output.line(f"{title}  {one.run_id}  {when(one.started_at)}  {commit}")
    for change in changes:
        output.line("")
        for line in _lines(change):
            output.line(line)
    output.line("")
    output.line("B minus A, paired by example, with its 95 % interval; one such interval in 20 leaves out 0 by chance.")
    return OK


def _names(run: Run) -> str:
    return ", ".join(recipe.name for recipe in run.recipes) or "none"


def _lines(change: RecipeChange) -> Iterator[str]:
    yield f"{change.after.name}: {_arrow(*(_outcome(recipe) for recipe in (change.before, change.after)))}"
    yield f"  {', '.join(_facts(change))}"
    rows = [_row(measure) for measure in change.measures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for measure, row in zip(change.measures, rows, strict=True):
        yield f"  {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))}".rstrip()
        if measure.problem is not None:
            yield f"    not compared: {measure.problem}"
        for gate in measure.gates:
            if gate.changed:
                yield f"    {_gate(gate)}"
    yield from _flipped(change.measures)


def _outcome(recipe: RecipeResult) -> str:
    from harness.pipeline.merging import run_outcome
    from harness.report.wording import VERDICT_WORDS

    return VERDICT_WORDS[run_outcome((recipe,), ())]


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _facts(change: RecipeChange) -> Iterator[str]:
    digests = change.before.adapter_digest, change.after.adapter_digest
    same = digests[0] == digests[1] and digests[0] is not None
    yield f"the same adapter {short(digests[0])}" if same else f"adapter {short(digests[0])} -> {short(digests[1])}"
    if change.same_test_set is not None:
        yield ("the same test set" if change.same_test_set else "another test set: what has other ids is not compared")
    pairs = [gate for measure in change.measures for gate in measure.gates]
    yield f"{sum(gate.changed for gate in pairs)} of {len(pairs)} gates changed"


def _row(change: MeasureChange) -> tuple[str, str, str]:
    from harness.report.wording import digits_of, format_value, interval, signed

    name = change.measure if len(change.measure) <= _LONGEST_NAME else f"{change.measure[: _LONGEST_NAME - 2]}…]"
    if change.view != "adapter":
        name += f" ({change.view})"
    if change.slice_name is not None:
        part = f"={change.slice_value}" if change.slice_value is not None else ""
        name += f" where {change.slice_name}{part}"
    values = " -> ".join(format_value(value, change.measure) for value in (change.before, change.after))
    found = change.difference
    if found is None:
        return name, values, ""
    digits = digits_of(change.measure)
    between = interval(found.low, found.high, digits, plus=True)
    return name, values, f"{signed(found.value, digits)} {between}{_direction(change.measure, found.low, found.high)}"


def _direction(measure: str, low: float, high: float) -> str:
    """What the difference means where its interval leaves out 0."""
    if low <= 0 <= high:
        return ""
    lower_is_better = measure.partition("[")[0].endswith(("_loss", "_error"))
    return " better" if (low > 0) != lower_is_better else " worse"


def _gate(pair: GatePair) -> str:
    from harness.report.wording import VERDICT_WORDS

    if pair.after is None or pair.before is None:
        verdict = pair.either.verdict
        return f"only in {'B' if pair.before is None else 'A'}: {VERDICT_WORDS[verdict.outcome]}  {verdict.rule}"
    one, other = pair.before.verdict, pair.after.verdict
    rule = one.rule if one.rule == other.rule else f"{other.rule} (in A: {one.rule})"
    return f"{_arrow(VERDICT_WORDS[one.outcome], VERDICT_WORDS[other.outcome])}  {rule}"


def _flipped(measures: Sequence[MeasureChange]) -> Iterator[str]:
    """The examples that turned, once for all measures that say the same of them."""
    by_flips: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for change in measures:
        if change.lost or change.gained:
            name = change.measure if change.view == "adapter" else f"{change.measure} ({change.view})"
            by_flips.setdefault((change.lost, change.gained), []).append(name)
    for (lost, gained), names in by_flips.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"  examples that turned, by {names[0]}{more}"
        for what, ids in (("right -> wrong", lost), ("wrong -> right", gained)):
            if ids:
                rest = f" and {len(ids) - _MOST_EXAMPLES:,} more" if len(ids) > _MOST_EXAMPLES else ""
                yield f"    {len(ids):,} {what}: {', '.join(ids[:_MOST_EXAMPLES])}{rest}"


def _form(before: Run, after: Run, changes: Sequence[RecipeChange]) -> dict[str, Any]:
    return {
        "before": before.run_id,
        "after": after.run_id,
        "confidence": _CONFIDENCE,
        "recipes": [
            {
                "name": change.after.name,
                "adapter_digests": [change.before.adapter_digest, change.after.adapter_digest],
                "same_test_set": change.same_test_set,
                "measures": [_measure_form(measure) for measure in change.measures],
            }
            for change in changes
        ],
    }


def _measure_form(change: MeasureChange) -> Mapping[str, Any]:
    found = change.difference
    return {
        "measure": change.measure,
        "view": change.view,
        "slice_name": change.slice_name,
        "slice_value": change.slice_value,
        "before": change.before,
        "after": change.after,
        "difference": None if found is None else found.value,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "n": None if found is None else found.n,
        "method": None if found is None else found.method,
        "problem": change.problem,
        "right_to_wrong": list(change.lost),
        "wrong_to_right": list(change.gained),
        "gates": [
            {
                "id": pair.either.id,
                "rules": [None if gate is None else gate.verdict.rule for gate in pair[:2]],
                "outcomes": [None if gate is None else gate.verdict.outcome.value for gate in pair[:2]],
            }
            for pair in change.gates
        ],
    }
