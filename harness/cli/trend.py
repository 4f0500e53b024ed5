"""`harness trend`: a measure over the runs."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.cli.history import add_store, count, index_of, short, store_of, when
from harness.cli.output import Output, shown
from harness.cli.usage import FAILURE, OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.store import Point, RunIndex

__all__ = ["declare"]

_LIMIT = 20
_VIEW = "adapter"
_HEIGHT = 16
_WIDEST = 120
_SUGGESTED = 5
_ESTIMATE, _INTERVAL = "●", "│"


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "trend",
        help="a measure over the runs",
        description="Plot a measure of a recipe over the runs that the store has, with the interval of each, and the "
        "threshold of its gate where it has one.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe's name")
    parser.add_argument(
        "measure",
        metavar="MEASURE",
        help="a measure, e.g. classification.macro_f1, or a gate by its id in report.json; of a gate that compares, "
        "the difference",
    )
    parser.add_argument("--view", metavar="VIEW", default=_VIEW, help=f"the view of a measure (default: {_VIEW})")
    parser.add_argument(
        "--limit", metavar="N", type=count, default=_LIMIT, help=f"at most so many runs, the newest (default: {_LIMIT})"
    )
    parser.add_argument(
        "--svg", metavar="FILE", type=Path, help="also write the plot as SVG, with the band of intervals"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a plot")
    add_store(parser)
    parser.set_defaults(run=run)


class _Asked(NamedTuple):
    """What to plot. measure: the name that says how its values are written."""

    name: str
    kind: str
    view: str
    measure: str


def run(arguments: Any, output: Output) -> int:
    root = store_of(arguments)
    index = index_of(root, output)
    asked = _asked(index, root, arguments.recipe, arguments.measure, arguments.view)
    points = index.trend(arguments.recipe, asked.name, kind=asked.kind, view=asked.view, limit=arguments.limit)
    title = f"{asked.name} of {arguments.recipe}"
    if asked.view != _VIEW:
        title += f", {asked.view}"
    if arguments.json:
        output.values({"recipe": arguments.recipe, **_form(asked, points)})
    else:
        for line in _lines(title, asked, points, output):
            output.line(line)
    if arguments.svg is not None:
        _write_svg(arguments.svg, title, asked, points)
        if not arguments.json:
            output.line(shown(arguments.svg))
    return FAILURE if index.problems else OK


def _asked(index: RunIndex, root: Path, recipe: str, name: str, view: str) -> _Asked:
    recipes = index.recipe_names()
    if recipe not in recipes:
        raise CommandError(
            f"no run in {shown(root)} has the recipe {recipe!r}; they have: {', '.join(recipes) or 'none'}"
        )
    found = index.figures(recipe)
    if ("measure", name, view) in found:
        return _Asked(name, "measure", view, name)
    for kind, known, gates_view in found:
        if kind != "measure" and known == name:
            return _Asked(name, kind, gates_view, name.split("/", 2)[-1])
    views = [known_view for kind, known, known_view in found if (kind, known) == ("measure", name)]
    if views:
        raise CommandError(f"no run of {recipe} has {name} on the view {view!r}; it has: {', '.join(views)}")
    names = list(dict.fromkeys(known for kind, known, _ in found if kind == "measure"))
    near = difflib.get_close_matches(name, names, n=_SUGGESTED, cutoff=0.4) or names[:_SUGGESTED]
    raise CommandError(
        f"no run of {recipe} has the measure {name!r}; of {len(names)} that it has, the nearest: {', '.join(near)}"
    )


def _lines(title: str, asked: _Asked, points: Sequence[Point], output: Output) -> Iterator[str]:
    yield title
    if output.writes(f"{_ESTIMATE}{_INTERVAL}"):
        yield from _plot(asked, points)
    verdict = "" if asked.kind == "measure" else "verdict"
    rows = [("run", "when", "value", "n", "adapter", verdict), *(_row(asked, point) for point in points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _plot(asked: _Asked, points: Sequence[Point]) -> Iterator[str]:
    """The estimates, each on its interval, as far apart whatever the time between them."""
    from plotext import figure, uncolorize

    known = [(number, point) for number, point in enumerate(points, 1) if point.value is not None]
    if not known:
        return
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(min(shutil.get_terminal_size().columns, _WIDEST), _HEIGHT)
    for number, point in known:
        if point.low is not None and point.high is not None:
            figure.draw(figure.segment((number, number), (point.low, point.high), marker=_INTERVAL))
    figure.draw(figure.signal([n for n, _ in known], [point.value for _, point in known], marker=_ESTIMATE))
    bar = points[-1].bar
    if bar is not None:
        figure.line(bar, orientation="horizontal")
    shown_at = sorted({1, (len(points) + 1) // 2, len(points)})
    figure.ruler("x").ticks(shown_at, [points[number - 1].started_at[:10] for number in shown_at])
    figure.ruler("x").lim(0.5, len(points) + 0.5)
    for line in str(uncolorize(figure.build())).splitlines():
        yield line.rstrip()
    if bar is not None:
        yield f"the line: the latest {'margin' if asked.kind == 'difference' else 'threshold'}, {_number(asked, bar)}"


def _row(asked: _Asked, point: Point) -> tuple[str, ...]:
    from harness.records import Outcome
    from harness.report.wording import NOT_MEASURED, VERDICT_WORDS, digits_of, interval

    value = NOT_MEASURED if point.value is None else _number(asked, point.value)
    between = interval(point.low, point.high, digits_of(asked.measure), plus=asked.kind == "difference")
    verdict = "" if point.outcome is None else VERDICT_WORDS[Outcome(point.outcome)]
    cells = (point.run_id, when(point.started_at), f"{value} {between}".rstrip(), str(point.n))
    return (*cells, short(point.adapter_digest), verdict)


def _number(asked: _Asked, value: float) -> str:
    from harness.report.wording import digits_of, number, signed

    return (signed if asked.kind == "difference" else number)(value, digits_of(asked.measure))


def _write_svg(file: Path, title: str, asked: _Asked, points: Sequence[Point]) -> None:
    """Raises CommandError where there is nothing to draw."""
    from harness.report import trend_svg

    values = [(point.run_id, point.started_at[:10], point.value, point.low, point.high) for point in points]
    text = trend_svg(title, asked.measure, values, points[-1].bar)
    if text is None:
        raise CommandError(f"{shown(file)}: not written, since none of these {len(points)} runs has a value to draw")
    file.write_text(text, encoding="utf-8")


def _form(asked: _Asked, points: Sequence[Point]) -> dict[str, Any]:
    return {
        "name": asked.name,
        "kind": asked.kind,
        "view": asked.view,
        "runs": [
            {
                "run_id": point.run_id,
                "started_at": point.started_at,
                "value": point.value,
                "low": point.low,
                "high": point.high,
                "n": point.n,
                "outcome": point.outcome,
                "bar": point.bar,
                "adapter_digest": point.adapter_digest,
            }
            for point in points
        ],
    }
