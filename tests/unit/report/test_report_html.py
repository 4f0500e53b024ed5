from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest
from lxml import html
from report_runs import (
    STAND_IN,
    by_slice,
    comparison,
    corrected,
    failing,
    gates,
    measure,
    named,
    recipe,
    run,
    sound,
    unsound,
    verdict,
)

from harness.errors import ReportError
from harness.records import Drivers, IntegrityCheck, Outcome, Run, SliceShare, TermCount, TrainingSummary
from harness.report import report_html

LOADING = {"script", "iframe", "object", "embed", "img", "form", "base", "video", "audio", "source"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} {% raw %} ::error::x"
CSS = resources.files("harness.report").joinpath("templates", "report.css").read_text(encoding="utf-8")


def page(value: Run) -> Any:
    return html.document_fromstring(report_html(value))


def text_of(element: Any) -> str:
    return " ".join(element.text_content().split())


def hostile_run(text: str) -> Run:
    """A run with `text` in every place that holds text."""
    gate = verdict(Outcome.FAIL, measure=text, view=text, rule=text, reason=text, method=text, note=text)
    drivers = Drivers((SliceShare(text, text, 1, 0.5),), (text,), 1, 1, (TermCount(text, 1, 0, 3.0),))
    gate = replace(gate, compared_with=text, slice_name=text, slice_value=text, must_pass_failed=(text,))
    gate = replace(gate, drivers=drivers)
    return run(
        recipe(
            name=text,
            base=text,
            fingerprint=text,
            adapter_digest=text,
            description=text,
            problem=text,
            integrity=(IntegrityCheck(text, False, text),),
            config={text: {text: [text, {text: text}]}},
            data={text: text},
            measures=(measure(text, text, 0.5, note=text, method=text, details={text: text}),),
            gates=(replace(gates(gate)[0], id=text, test=text),),
            samples=({"id": text, "prompt": text, "expected": text, "answers": {text: text}, text: text},),
        ),
        run_id=text,
        started_at=text,
        problems=(text,),
        provenance={text: {text: text}},
        outcome=Outcome.FAIL,
    )


ALL = {
    "passing": run(),
    "failing": failing(),
    "by_slice": by_slice(),
    "corrected": corrected(),
    "named": named(),
    "empty": run(recipes=(), outcome=Outcome.INCOMPLETE),
    "hostile": hostile_run(HOSTILE + " https://evil.example url(https://evil.example)"),
}


@pytest.mark.parametrize("example", ALL.values(), ids=ALL)
def test_the_page_asks_nothing_of_the_world(example: Run) -> None:
    document = page(example)
    for element in document.iter():
        if not isinstance(element.tag, str):
            continue
        assert element.tag not in {
            "script",
            "iframe",
            "object",
            "embed",
            "img",
            "form",
            "base",
            "video",
            "audio",
        }
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "formaction", "xlink:href", "background", "poster"}
            if name == "href":
                assert value.startswith("#") or value == "data:,"
            if name == "style":
                assert re.fullmatch(r"--share:\d+%", value)
    (style,) = document.findall(".//style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert "@font-face" not in style.text


@pytest.mark.parametrize("example", ALL.values(), ids=ALL)
def test_the_policy_forbids_scripts_and_requests_before_anything_else_is_read(example: Run) -> None:
    text = report_html(example)
    assert text.startswith("<!DOCTYPE html>")
    head = page(example).find("head")
    assert head[0].attrib == {"charset": "utf-8"}
    policy = head[1].attrib
    assert policy["http-equiv"] == "Content-Security-Policy"
    for rule in ("default-src 'none'", "script-src 'none'", "style-src 'unsafe-inline'", "img-src data:"):
        assert rule in policy["content"]


def test_untrusted_text_is_only_text() -> None:
    text = report_html(hostile_run(HOSTILE))
    assert "<script" not in text
    assert "</script" not in text
    assert "<img" not in text
    assert "{{ 7*7 }}" in text
    assert "{% raw %}" in text
    assert "49" not in re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.S)
    document = html.document_fromstring(text)
    assert HOSTILE in text_of(document.find(".//main"))


@pytest.mark.parametrize("hidden", list("\u202e\u2066\x00\x1b\x07\x7f\x85\ud800\ufeff"))
def test_hidden_characters_are_shown_by_name(hidden: str) -> None:
    text = report_html(hostile_run(f"abc{hidden}def"))
    text.encode("utf-8")
    assert hidden not in text
    named = f"[U+{ord(hidden):04X}]" if ord(hidden) > 0x1F else chr(0x2400 + ord(hidden))
    assert f"abc{named}def" in text


def test_long_text_is_cut_with_a_note() -> None:
    answer = "longanswer" * 10_000
    sample = {"id": "1", "prompt": "p", "expected": "e", "answers": {"adapter": answer}}
    text = report_html(run(recipe(samples=(sample,))))
    assert "… [96,000 more characters, the full text is in report.json]" in text
    assert text.count("longanswer") == 400
    assert len(report_html(hostile_run("x" * 100_000))) < 250_000


def test_headline_and_title_are_the_verdict() -> None:
    document = page(run())
    assert text_of(document.find(".//h1")) == "Ready to promote: all 2 gates passed"
    assert document.findtext(".//title") == "Ready to promote: all 2 gates passed"
    document = page(failing())
    assert text_of(document.find(".//h1")).startswith("Not ready: 1 of 5 gates failed, 1 is incomplete")
    counts = [text_of(item) for item in document.find_class("counts")[0]]
    assert counts == ["2 passed", "1 failed", "1 inconclusive", "1 incomplete"]


def test_what_was_compared_is_said() -> None:
    (lead,) = page(run()).find_class("lead")
    assert text_of(lead) == (
        "The fine-tuned adapter was measured on the same examples as the base model as it is and the base "
        "model with worked examples in its prompt (prompted base)."
    )
    alone = recipe(measures=(measure("a.b", "adapter", 0.5),), gates=gates(verdict()))
    assert page(run(alone)).find_class("lead") == []


def test_gates_that_did_not_pass_come_first_each_with_word_and_icon() -> None:
    rows = page(failing()).xpath("//table[contains(@class, 'gates')]/tbody/tr")
    badges = [row.find_class("badge")[0] for row in rows]
    assert [text_of(badge) for badge in badges] == [
        "failed",
        "incomplete",
        "inconclusive",
        "passed",
        "passed",
    ]
    assert all(badge.find("svg") is not None for badge in badges)
    assert "0.741 against 0.753 of the base" in text_of(rows[0])
    assert "\N{MINUS SIGN}0.160 [\N{MINUS SIGN}0.200, \N{MINUS SIGN}0.120]" in text_of(rows[0])
    assert "not measured" in text_of(rows[1])
    assert "3 of 360 examples have no score" in text_of(rows[1])
    assert "0.000" not in text_of(rows[1])


def test_a_slice_and_what_stands_behind_its_verdict_are_shown() -> None:
    rows = page(by_slice()).xpath("//table[contains(@class, 'gates')]/tbody/tr")
    parts = [text_of(row.find_class("part")[0]) for row in rows]
    assert parts == ["where plan=free", "by region", "where plan=enterprise"]
    (drivers,) = rows[0].find_class("drivers")
    assert [text_of(head) for head in drivers.iter("dt")] == [
        "Largest parts of the drop",
        "14 examples worse than base",
        "Words that stand out in them",
    ]
    assert text_of(drivers.find(".//dd")) == "tone=angry 0.110 (40 examples), label=fee 0.052 (31 examples)"
    assert rows[2].find_class("drivers") == []


def test_corrected_fails_and_warnings_stand_beside_their_gates() -> None:
    far, near, weak = map(text_of, page(corrected()).xpath("//table[contains(@class, 'gates')]/tbody/tr"))
    assert "far below A fail also after correction for several gates (Holm)." in far
    assert "just below Not after correction for several gates (Holm)" in near
    assert "Warning: an adapter exactly as good as base would pass on 46 % of such test sets." in weak
    assert "Warning" not in far + near
    assert "correction" not in weak


def test_named_examples_are_counted_and_not_drawn() -> None:
    (row,) = page(named()).xpath("//table[contains(@class, 'gates')]/tbody/tr")
    assert "2 of 3 right" in text_of(row)
    assert "t-4 was answered 'rent'" in text_of(row)
    assert row.find_class("bar") == []


def test_every_drawing_has_a_title_in_words() -> None:
    document = page(run())
    titles = [svg.findtext("title") for svg in document.xpath("//svg[@role='img']")]
    assert len(titles) == 3
    assert titles[0].startswith("Estimate 0.912, interval 0.880 to 0.938")
    assert titles[1].startswith("Difference to base -0.012, interval -0.030 to +0.008")
    assert titles[2].startswith("Training loss 2.500 at step 1")
    unnamed = document.xpath("//svg[not(@role) and not(@aria-hidden) and not(ancestor::svg)]")
    assert unnamed == []


def test_views_stand_side_by_side_with_their_differences() -> None:
    (table,) = page(run()).find_class("measures")
    heads = [text_of(cell) for cell in table.xpath("thead//th")]
    assert heads == [
        "Measure",
        "Base",
        "Prompted base",
        "Adapter",
        "Adapter \N{MINUS SIGN}base",
        "Adapter \N{MINUS SIGN}prompted base",
        "Examples",
    ]
    cells = [text_of(cell) for cell in table.xpath("tbody/tr[1]/td")]
    assert cells == [
        "0.211 [0.161, 0.261]",
        "0.500 [0.450, 0.550]",
        "0.912 [0.862, 0.962]",
        "+0.701",
        "+0.412",
        "360",
    ]


def test_what_was_not_measured_says_why_and_is_no_zero() -> None:
    missing = measure("a.b", "adapter", None, note="the judge was not reached", n=0, n_unscored=60)
    (table,) = page(run(recipe(measures=(missing, measure("a.b", "base", 0.5))))).find_class("measures")
    cells = [text_of(cell) for cell in table.xpath("tbody/tr[1]/td")]
    assert cells[1] == "not measured the judge was not reached"
    assert cells[2].endswith("not defined")
    silent = measure("a.b", "adapter", None)
    assert "the run does not say why" in report_html(run(recipe(measures=(silent,))))


def test_examples_without_a_score_are_told_at_the_number() -> None:
    partly = measure("a.b", "adapter", 0.5, n=57, n_unscored=3)
    (table,) = page(run(recipe(measures=(partly,)))).find_class("measures")
    assert "3 of 60 not scored" in text_of(table)


def test_a_stand_in_is_named_at_every_number() -> None:
    grades = tuple(measure("judge.score", view, 3.4, note=STAND_IN) for view in ("base", "adapter"))
    gate = verdict(measure="judge.score", value=3.4, low=3.0, high=3.8, note=STAND_IN)
    document = page(run(recipe(measures=grades, gates=gates(gate))))
    (table,) = document.find_class("measures")
    assert all("stand-in judge" in text_of(cell) for cell in table.xpath("tbody/tr[1]/td")[:2])
    assert STAND_IN in text_of(table)
    assert STAND_IN in text_of(document.xpath("//table[contains(@class, 'gates')]/tbody/tr[1]/td[2]")[0])
    assert "Some grades come from a stand-in judge." in text_of(document.find(".//main"))
    assert "stand-in" not in report_html(run(recipe(measures=())))


def test_measures_of_single_categories_are_folded() -> None:
    many = tuple(measure(f"classification.f1[label{k}]", "adapter", 0.5) for k in range(12))
    document = page(run(recipe(measures=(measure("classification.accuracy", "adapter", 0.5), *many))))
    folded = [d for d in document.iter("details") if "Single categories" in text_of(d.find("summary"))]
    assert len(folded) == 1
    assert len(folded[0].xpath(".//tbody/tr")) == 12


def test_confusion_matrix_is_a_table_and_anything_else_is_facts() -> None:
    (table,) = page(run()).find_class("confusion")
    assert [text_of(cell) for cell in table.xpath("tbody/tr[1]/td")] == ["170", "10"]
    broken = {"confusion_matrix": {"labels": ["a"], "counts": [[1, 2]]}}
    document = page(run(recipe(measures=(measure("a.b", "adapter", 0.5, details=broken),))))
    assert document.find_class("confusion") == []
    assert "confusion_matrix.labels" in text_of(document)


def test_samples_show_each_answer_and_say_which_is_the_expected_one() -> None:
    (sample,) = page(run()).find_class("sample")
    boxes = [(text_of(box.find("h5")), text_of(box.find("div"))) for box in sample.find_class("box")]
    assert boxes == [
        ("Prompt", "Which category?"),
        ("Expected", "fee"),
        ("Base", "I do not know."),
        ("Prompted base", "not recorded"),
        ("Adapter same as expected", "fee"),
    ]


def test_a_rising_validation_loss_is_said() -> None:
    rising = TrainingSummary(60.0, 1, 4, 4, (), ((1, 0.9), (2, 0.5), (4, 0.8)))
    text = text_of(page(run(recipe(training=rising))))
    assert "Validation loss was lowest at step 2 (0.500) and 0.800 at the end" in text


def test_where_the_adapter_comes_from() -> None:
    assert "taken from the store" in report_html(run(recipe(from_store=True)))
    assert "trained in this run" in report_html(run(recipe(from_store=False)))
    assert "none was made" in report_html(run(recipe(from_store=None, adapter_digest=None)))


def test_structure_for_readers_of_all_kinds() -> None:
    document = page(failing())
    assert document.attrib["lang"] == "en"
    assert len(document.xpath("//main")) == 1
    levels = [int(element.tag[1]) for element in document.iter("h1", "h2", "h3", "h4", "h5")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for table in document.iter("table"):
        assert table.find("caption") is not None
        assert text_of(table.find("caption"))
        for head in table.iter("th"):
            assert head.attrib["scope"] in {"row", "col"}
    ids = document.xpath("//@id")
    assert len(ids) == len(set(ids))
    for reference in document.xpath("//@aria-labelledby | //a/@href"):
        assert reference.lstrip("#") in ids


def test_the_page_is_the_same_each_time_and_of_equal_runs() -> None:
    other = run(recipe(config=dict(reversed(recipe().config.items()))))
    assert report_html(run()) == report_html(run()) == report_html(other)


def test_what_the_json_refuses_is_refused_here() -> None:
    with pytest.raises(ReportError, match="duration_seconds"):
        report_html(replace(run(), duration_seconds=math.nan))


def test_deep_mappings_are_rendered_flat() -> None:
    deep: dict[str, Any] = {"leaf": "found"}
    for _ in range(150):
        deep = {"a": deep}
    assert "found" in report_html(run(provenance=deep))


def palette(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2, "relative luminance"."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(scheme: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.S)
    assert len(blocks) == 2
    colours = palette(blocks[0]) | (palette(blocks[1]) if scheme == "dark" else {})
    grounds = ("page", "sheet")
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent", "pass", "fail") for ground in grounds]
    pairs += [(word, f"{word}-tint") for word in ("pass", "fail", "inconclusive", "incomplete")]
    pairs += [("ink", f"{word}-tint") for word in ("fail", "inconclusive", "accent")]
    pairs += [("soft", "accent-tint"), ("pass", "accent-tint")]
    low = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}


def test_no_jinja_before_a_page_is_drawn() -> None:
    """Collecting tests imports this room; jinja2 and numpy must wait until a report is written."""
    code = "import json, sys, harness.report; print(json.dumps([*sys.modules]))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"jinja2", "numpy", "harness.report"} & set(json.loads(found.stdout)) == {"harness.report"}


def test_comparison_without_a_difference_says_so() -> None:
    undecided = comparison(Outcome.INCOMPLETE, difference=None, difference_low=None, difference_high=None)
    (row,) = page(run(recipe(gates=gates(undecided)))).xpath("//table[contains(@class, 'gates')]/tbody/tr")
    assert text_of(row.find_class("figure")[0]).startswith("not measured")


def test_every_check_of_the_adapter_has_a_line() -> None:
    def section(value: Run) -> tuple[bool, str, list[str]]:
        (fold,) = page(value).xpath("//h3[.='Integrity of the adapter']/following-sibling::details[1]")
        lines = [text_of(line) for line in fold.xpath(".//li")]
        return "open" in fold.attrib, text_of(fold.find("summary")), lines

    first = (
        "Every weight of the adapter is loaded, and none that the model does not know: passed 28 keys, none missing "
        "and none unknown"
    )
    changed = "Switching the adapter on changes logits: "
    assert section(sound()) == (
        False,
        "All 2 checks passed before anything was measured",
        [first, f"{changed}passed by up to 4.2 on 4 test examples"],
    )
    assert section(unsound()) == (
        True,
        "1 of 2 checks failed, so nothing was measured with it",
        [first, f"{changed}failed switching the adapter on changes no logit on 4 test examples"],
    )
    assert "Integrity of the adapter" not in report_html(run())
