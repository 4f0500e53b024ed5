"""Run -> report.json, report.html, summary.md, an adapter's README.md: strings in, strings out.

No disk, no clock, no network.
"""

from __future__ import annotations

from harness.report.card import card_md
from harness.report.json_form import read_report, report_json
from harness.report.page import report_html
from harness.report.rows import GateRow, gates_table
from harness.report.summary import summary_md
from harness.report.terminal import SummaryLine, terminal_summary
from harness.report.trend import trend_svg
from harness.report.wording import (
    drivers_in_words,
    format_value,
    headline,
    integrity_in_words,
    judging_in_words,
    recipe_headline,
    slice_in_words,
)

__all__ = [
    "GateRow",
    "SummaryLine",
    "card_md",
    "drivers_in_words",
    "format_value",
    "gates_table",
    "headline",
    "integrity_in_words",
    "judging_in_words",
    "read_report",
    "recipe_headline",
    "report_html",
    "report_json",
    "slice_in_words",
    "summary_md",
    "terminal_summary",
    "trend_svg",
]
