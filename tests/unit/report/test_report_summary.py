from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from report_runs import STAND_IN, by_slice, corrected, failing, gates, recipe, run, sound, unsound, verdict

from harness.errors import ReportError
from harness.records import Outcome
from harness.report import summary_md

HOSTILE = (
    "::error::boo\n::set-output name=x::y | `code` **bold** <img src=x onerror=alert(1)> [link](https://evil.example)"
    " @octocat ##[error]x\x1b[31m\u202e $a$ \\| www.evil.example"
)


def test_a_passing_run() -> None:
    text = summary_md(run())
    assert text.startswith("## ✅ Ready to promote: all 2 gates passed\n")
    assert "started 23 November 2026, 14:07 UTC, took 18 min 4 s." in text
    assert "| ✅ passed | classification.macro\\_f1 | 0.912 \\[0.880, 0.938\\] | at least 0.900 |" in text


def test_a_failing_run_says_everything_that_is_wrong() -> None:
    text = summary_md(failing())
    assert text.startswith("## ❌ Not ready: 1 of 5 gates failed, 1 is incomplete, 1 is inconclusive, tickets did not")
    assert "- **Problem:** 1 collected test never reported" in text
    assert "- **Problem:** the loss is NaN at step 31" in text
    assert "### ❌ tickets: Not ready: the recipe did not finish" in text
    verdicts = re.findall(r"^\| \S+ (failed|incomplete|inconclusive|passed) ", text, re.M)
    assert verdicts == ["failed", "incomplete", "inconclusive", "passed", "passed"]
    assert "| not measured |" in text


def test_a_gate_that_stopped_early_says_so_beside_its_figure() -> None:
    early = run(recipe(gates=gates(verdict(n=23, out_of=60), verdict(n=60, out_of=60), verdict())))
    figures = re.findall(r"\| classification.macro\\_f1 \| ([^|]*) \|", summary_md(early))
    value = "0.912 \\[0.880, 0.938\\]"
    assert figures == [f"{value} (23 of 60 examples)", value, value]


def test_slices_and_drivers_are_in_the_table() -> None:
    text = summary_md(by_slice())
    assert "| ❌ failed | classification.accuracy where plan=free | 0.741, -0.160" in text
    assert "Largest parts of the drop: tone=angry 0.110 (40 examples)" in text
    assert "“refund” in 9 of 14, else 2 of 41" in text
    assert "| ⚠️ incomplete | classification.macro\\_f1 by region | not measured |" in text


def test_the_integrity_of_the_adapter_is_one_line() -> None:
    assert "Integrity" not in summary_md(run())
    assert "\n- ✅ Integrity of the adapter: all 2 checks passed\n\n| Verdict |" in summary_md(sound())
    said = "1 of 2 checks failed: switching the adapter on changes no logit on 4 test examples"
    assert f"\n- ❌ Integrity of the adapter: {said}\n\n| Verdict |" in summary_md(unsound())


def test_corrected_fails_and_warnings_are_in_the_table() -> None:
    text = summary_md(corrected())
    assert "| far below A fail also after correction for several gates (Holm). |" in text
    assert "| just below Not after correction for several gates (Holm): of so many, one could miss" in text
    assert "| met Warning: an adapter exactly as good as base would pass on 46 % of such test sets. |" in text
    assert text.count("correction") == 2


def test_a_stand_in_is_named_at_the_number() -> None:
    grade = verdict(measure="judge.score", value=3.4, low=3.0, high=3.8, note=STAND_IN)
    row = next(line for line in summary_md(run(recipe(gates=gates(grade)))).splitlines() if "judge.score" in line)
    assert "3.40 \\[3.00, 3.80\\] (stand-in judge)" in row
    assert STAND_IN in row


def test_untrusted_text_is_only_text() -> None:
    hostile = verdict(Outcome.FAIL, measure=HOSTILE, rule=HOSTILE, reason=HOSTILE, note=HOSTILE)
    example = run(
        recipe(name=HOSTILE, gates=gates(hostile), problem=HOSTILE),
        outcome=Outcome.FAIL,
        run_id=HOSTILE,
        started_at=HOSTILE,
        problems=(HOSTILE,),
    )
    text = summary_md(example)
    for line in text.splitlines():
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
        assert "::" not in line
        if line.startswith("|") and "---" not in line:
            # Five cells: an escaped pipe is no border.
            assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 6
    assert "<img" not in text
    assert "&lt;img" in text
    assert not re.search(r"(?<!\\)`", text.replace("`report.html`", ""))
    assert "@octocat" not in text
    assert "https://" not in text
    assert "www." not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not re.search(r"(?<!\\)\[", text)


@pytest.mark.parametrize(("recipes", "count"), [(1, 1_500), (20, 30), (500, 1)])
def test_it_stays_small_and_says_what_is_missing(recipes: int, count: int) -> None:
    long = verdict(Outcome.FAIL, reason="漢" * 1_000)
    mixed = [verdict(reason="passed")] * (count // 2) + [long] * (count - count // 2)
    many = [
        recipe(name=f"recipe_{k}", gates=gates(*mixed, recipe=f"recipe_{k}"), samples=(), measures=())
        for k in range(recipes)
    ]
    text = summary_md(run(*many, outcome=Outcome.FAIL))
    assert len(text.encode()) < 60_000
    assert "report.html" in text
    assert ("more gates are in report.html" in text) or ("did not fit" in text)
    if recipes == 1:
        shown = text.count("| ❌ failed |") + text.count("| ✅ passed |")
        assert shown >= 5
        assert f"{count - shown} more gates" in text
        assert "✅ passed" not in text


def test_many_long_problems_stay_small_too() -> None:
    text = summary_md(run(problems=tuple("😀" * 5_000 for _ in range(500)), outcome=Outcome.FAIL))
    assert len(text.encode()) < 60_000
    assert text.endswith("did not fit; see `report.html`.\n")


def test_no_gates_no_table() -> None:
    text = summary_md(run(recipe(gates=()), outcome=Outcome.INCOMPLETE))
    assert text.startswith("## ❌ Not ready: no gate was decided")
    assert "| :--" not in text


def test_what_the_json_refuses_is_refused_here() -> None:
    with pytest.raises(ReportError, match="duration_seconds"):
        summary_md(replace(run(), duration_seconds=math.nan))


def test_recipes_that_are_not_ready_come_first() -> None:
    bad = recipe(name="bad", gates=gates(verdict(Outcome.FAIL), recipe="bad"))
    text = summary_md(run(recipe(), bad, outcome=Outcome.FAIL))
    assert text.index("### ❌ bad") < text.index("### ✅ invoices")
