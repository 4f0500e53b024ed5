"""The drawing of a measure over runs."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from harness.report import trend_svg
from harness.report.charts import trend_chart

Value = tuple[str, str, float | None, float | None, float | None]


def value(number: int, at: float | None, low: float | None = None, high: float | None = None) -> Value:
    return (f"run {number}", f"2026-11-0{number}", at, low, high)


def test_places_are_percent_of_the_scale() -> None:
    """Two runs at a quarter and three quarters of the width; from 0.6 to 1.0 in steps of 0.1."""
    chart = trend_chart([value(1, 0.7, 0.6, 0.8), value(2, 0.9, 0.8, 1.0)], 0.65, 3)
    assert chart is not None
    assert [label for _, label in chart.y_ticks] == ["0.6", "0.7", "0.8", "0.9", "1"]
    assert [(place.x, place.y) for place in chart.places] == [(25.0, 75.0), (75.0, 25.0)]
    assert chart.lines == ("25,75 75,25",)
    assert chart.bands == ("25,50 75,0 75,50 25,100",)
    assert chart.bar == 87.5
    assert chart.x_ticks == ((25.0, "2026-11-01"), (75.0, "2026-11-02"))
    assert chart.places[1].title == "run 2: 0.900 [0.800, 1.000]"


def test_a_run_without_a_value_is_a_gap() -> None:
    chart = trend_chart([value(1, 0.5, 0.4, 0.6), value(2, None), value(3, 0.5), value(4, 0.7, 0.6, 0.8)], None, 3)
    assert chart is not None
    assert len(chart.places) == 3
    assert [len(line.split()) for line in chart.lines] == [1, 2]
    assert [len(band.split()) for band in chart.bands] == [2, 2]  # upper and lower of one run each
    assert chart.bar is None


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0, -0.25, 3.0])
def test_values_that_do_not_differ_have_a_scale_too(at: float) -> None:
    chart = trend_chart([value(1, at), value(2, at)], None, 3)
    assert chart is not None
    assert 2 <= len(chart.y_ticks) <= 6
    assert all(0 <= place.y <= 100 for place in chart.places)


@pytest.mark.parametrize("values", [[], [value(1, None)], [value(1, 1e200)]], ids=["no run", "no value", "no scale"])
def test_nothing_to_draw_is_no_drawing(values: list[Value]) -> None:
    assert trend_chart(values, 0.5, 3) is None
    assert trend_svg("a", "a", values, None) is None


def test_a_bar_beyond_any_scale_is_left_out() -> None:
    chart = trend_chart([value(1, 0.5)], 1e300, 3)
    assert chart is not None
    assert chart.bar is None


def test_names_cannot_become_markup() -> None:
    text = trend_svg('<script>alert("x")</script>\u202e', "m", [("</title><b>", "<i>", 0.5, 0.4, 0.6)], None)
    assert text is not None
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert tags <= {"svg", "title", "style", "rect", "text", "line", "polygon", "polyline", "circle"}
    assert "[U+202E]" in text
