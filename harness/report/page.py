"""Run -> one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from harness.records import Run
from harness.report.json_form import read_report, report_json
from harness.report.views import (
    NOT_RECORDED,
    all_notes,
    fact_tables,
    gate_counts,
    recipe_view,
    what_was_compared,
)
from harness.report.wording import (
    clip,
    duration,
    glossary,
    headline,
    is_ready,
    moment,
    one_line,
    stand_in,
    visible,
)

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["report_html", "template_environment"]

LONGEST_TEXT = 4_000
LONGEST_LINE = 200


def report_html(run: Run) -> str:
    """The report for people: verdict first, then gates, measures, training, sample answers, provenance.

    All of the run's text is untrusted: it is escaped, hidden characters are shown by name, and beyond 4,000
    characters it is cut with a note.
    Raises ReportError where report_json does: the page shows what report.json holds, and nothing else.
    """
    run = read_report(report_json(run))
    names = sorted({measure.name for recipe in run.recipes for measure in recipe.measures})
    gates = [gate.verdict for recipe in run.recipes for gate in recipe.gates]
    template = template_environment().get_template("report.html.j2")
    return template.render(
        run=run,
        style=_template_text("report.css"),
        title=headline(run),
        ready=is_ready(run),
        started=moment(run.started_at),
        took=duration(run.duration_seconds),
        counts=gate_counts(gates),
        compared=what_was_compared(run),
        glossary=glossary([*names, *(verdict.measure for verdict in gates)]),
        has_stand_in=any(stand_in(text) for text in all_notes(run)),
        recipes=[recipe_view(recipe) for recipe in run.recipes],
        provenance=fact_tables(run.provenance),
    )


@cache
def template_environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup, escape

    def finalize(value: object) -> object:
        """What every expression of a template goes through before it is escaped."""
        if hasattr(value, "__html__"):
            return value
        return visible(clip(NOT_RECORDED if value is None else str(value), LONGEST_TEXT))

    environment = Environment(
        loader=FunctionLoader(_template_text),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = lambda text: one_line(text, LONGEST_LINE)

    def breakable(text: str) -> Markup:
        """A dotted name on one line, which may break after its dots, underscores and brackets."""
        return Markup(re.sub(r"(?<=[._/\[])(?=\w)", "<wbr>", str(escape(one_line(text, LONGEST_LINE)))))

    environment.filters["breakable"] = breakable
    # The style sheet and the points of a line are this package's own, not the run's.
    environment.filters["own"] = Markup
    return environment


@cache
def _template_text(name: str) -> str:
    folder = resources.files("harness.report").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")
