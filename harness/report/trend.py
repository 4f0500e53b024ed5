"""A measure over the runs as an SVG file of its own."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.charts import trend_chart
from harness.report.page import template_environment
from harness.report.wording import digits_of

__all__ = ["trend_svg"]


def trend_svg(
    title: str,
    measure: str,
    values: Sequence[tuple[str, str, float | None, float | None, float | None]],
    bar: float | None,
) -> str | None:
    """The drawing: a line through the estimates, the band of their intervals, and the bar; no script, no request.

    values: of each run what to call it, its date, value, low and high, oldest first. measure: its name, which says how
    many decimals its values have. None where no run has a value.
    """
    chart = trend_chart(values, bar, digits_of(measure))
    if chart is None:
        return None
    return template_environment().get_template("trend.svg.j2").render(title=title, c=chart)
