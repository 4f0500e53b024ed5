from __future__ import annotations

import json
import math
import random
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from report_runs import (
    by_slice,
    comparison,
    corrected,
    failing,
    gates,
    judged,
    measure,
    named,
    recipe,
    run,
    sound,
    unsound,
    verdict,
)

from harness.errors import ReportError
from harness.records import (
    Drivers,
    IntegrityCheck,
    JudgingSummary,
    MeasureResult,
    Outcome,
    RecipeResult,
    Rule,
    Run,
    SliceShare,
    TermCount,
    TrainingSummary,
    Verdict,
)
from harness.report import json_form as form
from harness.report import read_report, report_json

OUTCOMES = "pass, not_applicable, fail, inconclusive, incomplete"
SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
HOSTILE = "</script>\u2028\u202eabc\x00\x1b[31m\ud800 ::error::x {{ 7*7 }} \x85 é 漢 😀"


def plain(value: Run) -> dict[str, Any]:
    return json.loads(report_json(value))


@pytest.mark.parametrize(
    "example",
    [
        run(),
        failing(),
        by_slice(),
        named(),
        corrected(),
        sound(),
        unsound(),
        judged(),
        run(outcome=Outcome.INCOMPLETE, recipes=()),
    ],
)
def test_a_report_reads_back_as_the_same_run_and_meets_the_schema(example: Run) -> None:
    text = report_json(example)

    assert read_report(text) == example
    assert report_json(read_report(text)) == text
    assert list(Draft202012Validator(SCHEMA).iter_errors(json.loads(text))) == []


def test_a_report_from_before_a_key_was_added_is_read() -> None:
    report = plain(run())
    for gate in report["recipes"][0]["gates"]:
        del gate["out_of"]
    assert read_report(json.dumps(report)) == run()


def test_a_gate_that_stopped_early_says_how_many_examples_there_were() -> None:
    stopped = run(recipe(gates=gates(verdict(n=23, out_of=60))))
    assert plain(stopped)["recipes"][0]["gates"][0]["out_of"] == 60
    assert read_report(report_json(stopped)) == stopped


def test_a_report_from_before_judges_were_recorded_is_read() -> None:
    report = plain(run())
    del report["recipes"][0]["judging"]
    del report["recipes"][0]["calibration"]
    assert read_report(json.dumps(report)) == run()


def test_random_runs_read_back_as_the_same_run() -> None:
    rng = random.Random(0)
    validator = Draft202012Validator(SCHEMA)

    def number() -> float | None:
        return rng.choice([None, 0.0, -0.0, 1.0, rng.random(), rng.uniform(-1e9, 1e9), 5e-324, 1e300])

    for _ in range(40):
        numbers = [name for name, kind in Verdict.__annotations__.items() if kind == "float | None"]
        verdicts = [verdict(rng.choice(list(Outcome)), **{name: number() for name in numbers}) for _ in range(3)]
        example = run(recipe(gates=gates(*verdicts), description="".join(rng.sample(HOSTILE, 9))))
        text = report_json(example)
        assert read_report(text) == example
        assert validator.is_valid(json.loads(text))


def test_text_of_any_kind_reads_back_and_can_be_written_as_utf8() -> None:
    example = run(recipe(description=HOSTILE, samples=({"id": HOSTILE, HOSTILE: HOSTILE},)))
    text = report_json(example)

    assert read_report(text) == example
    text.encode("utf-8")
    hidden = {c for c in text if c in "\u2028\u202e\x85\x00\x1b"}
    assert hidden == set()
    assert "é 漢 😀" in text


def test_the_text_does_not_depend_on_the_order_of_mappings() -> None:
    one = run(recipe(config={"a": 1, "b": {"x": 1, "y": 2}}), provenance={"m": 1, "n": 2})
    other = run(recipe(config={"b": {"y": 2, "x": 1}, "a": 1}), provenance={"n": 2, "m": 1})
    assert report_json(one) == report_json(other)


def test_gates_are_flat() -> None:
    gate = plain(run())["recipes"][0]["gates"][1]
    assert gate["id"] == "invoices/test_it/1"
    assert gate["outcome"] == "pass"
    assert gate["difference_low"] == -0.03
    assert "verdict" not in gate


def test_a_tuple_in_a_free_mapping_comes_back_as_a_list() -> None:
    back = read_report(report_json(run(recipe(config={"labels": ("a", "b")}))))
    assert back.recipes[0].config == {"labels": ["a", "b"]}


def test_whole_numbers_where_a_float_is_declared_become_floats() -> None:
    assert '"value": 1.0' in report_json(run(recipe(gates=gates(verdict(value=1)))))


@pytest.mark.parametrize(
    ("record", "declared"),
    [
        (Verdict, form._VERDICT),
        (MeasureResult, form._MEASURE),
        (Drivers, form._DRIVERS),
        (SliceShare, form._SLICE),
        (TermCount, form._TERM),
        (IntegrityCheck, form._CHECK),
        (Rule, form._RULE),
        (TrainingSummary, form._TRAINING),
        (JudgingSummary, form._JUDGING),
        (RecipeResult, form._RECIPE),
        (Run, form._TOP),
    ],
)
def test_the_form_has_every_field_of_the_records(record: type, declared: dict[str, object]) -> None:
    assert set(declared) == {field.name for field in fields(record)}


def test_a_report_from_before_the_later_keys_is_read() -> None:
    asked = Rule(at_least=0.9, must_pass=("t-1",), n=360)
    whole = run(recipe(gates=gates(verdict(asked=asked)), base_digest="ba", suites={"a": "b"}, tests={"passed": 1}))
    assert read_report(report_json(whole)) == whole
    old = json.loads(report_json(whole))
    del old["recipes"][0]["gates"][0]["asked"]
    for key in ("base_digest", "suites", "tests", "promoted"):
        del old["recipes"][0][key]
    found = read_report(json.dumps(old)).recipes[0]
    assert found.gates[0].verdict.asked is None
    assert (found.base_digest, found.suites, found.tests, found.promoted) == (None, {}, {}, {})


@pytest.mark.parametrize(
    ("where", "declared"),
    [
        ((), form._TOP),
        (("recipe",), form._RECIPE),
        (("gate",), form._GATE),
        (("measure",), form._MEASURE),
        (("training",), form._TRAINING),
        (("judging",), form._JUDGING),
        (("drivers",), form._DRIVERS),
        (("slice_share",), form._SLICE),
        (("term",), form._TERM),
        (("check",), form._CHECK),
        (("rule",), form._RULE),
    ],
)
def test_the_schema_has_the_same_keys_all_required_and_described(
    where: tuple[str, ...], declared: dict[str, object]
) -> None:
    part = SCHEMA["$defs"][where[0]] if where else SCHEMA
    assert list(part["properties"]) == list(declared) == part["required"]
    assert part["additionalProperties"] is False
    undocumented = [
        key for key, value in part["properties"].items() if "description" not in value and "$ref" not in value
    ]
    assert undocumented in ([], ["schema_version"])


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda x: run(duration_seconds=x), "duration_seconds"),
        (lambda x: run(recipe(gates=gates(verdict(low=x)))), "recipes[0].gates[0].low"),
        (
            lambda x: run(recipe(measures=(replace(measure("a", "base", 0.5), value=x),))),
            "recipes[0].measures[0].value",
        ),
        (
            lambda x: run(recipe(training=TrainingSummary(1.0, 1, 1, 1, ((1, x),), ()))),
            "recipes[0].training.loss[0][1]",
        ),
        (lambda x: run(recipe(config={"a": [0, {"b": x}]})), "recipes[0].config.a[1].b"),
        (lambda x: run(provenance={"load": x}), "provenance.load"),
    ],
)
def test_what_is_not_finite_is_refused_by_name(build: Any, where: str, number: float) -> None:
    with pytest.raises(ReportError) as caught:
        report_json(build(number))
    assert f" {where} is " in str(caught.value)
    assert "null" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"path": Path("x")}, "recipes[0].config.path is a PosixPath, which JSON cannot hold"),
        ({"a": {1: 2}}, "a key of recipes[0].config.a must be text, found 1"),
        ({"n": 10**5000}, "recipes[0].config.n is an integer too long for JSON"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name(config: dict[Any, Any], message: str) -> None:
    with pytest.raises(ReportError) as caught:
        report_json(run(recipe(config=config)))
    assert message in str(caught.value)


def test_a_mapping_that_contains_itself_is_refused() -> None:
    config: dict[str, Any] = {}
    config["self"] = config
    with pytest.raises(ReportError, match="contains itself"):
        report_json(run(recipe(config=config)))


def test_two_gates_with_one_id_are_refused_in_both_directions() -> None:
    twice = (*gates(verdict()), *gates(comparison()))
    with pytest.raises(ReportError, match="two gates have the id"):
        report_json(run(recipe(gates=twice)))
    read = plain(run())
    read["recipes"][0]["gates"][1]["id"] = read["recipes"][0]["gates"][0]["id"]
    with pytest.raises(ReportError, match="two gates have the id"):
        read_report(json.dumps(read))


def changed(path: tuple[Any, ...], value: Any) -> str:
    """A report with one value replaced; ... removes it."""
    report = plain(run())
    part = report
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(report)


WRONG = [
    (("schema_version",), 1, "schema_version 1, this harness reads 3; render it with the version"),
    (("schema_version",), True, "schema_version true, this harness reads 3"),
    (("run_id",), 7, "run_id must be text, found 7"),
    (("run_id",), ..., "the top level has no run_id"),
    (("outcome",), "passed", f'outcome must be one of {OUTCOMES}, found "passed"'),
    (("outcome",), ["pass"], f"outcome must be one of {OUTCOMES}, found an array"),
    (("recipies",), [], 'the top level has an unknown key "recipies"; did you mean recipes?'),
    (("recipes",), {}, "recipes must be an array, found an object"),
    (("problems",), [1], "problems[0] must be text, found 1"),
    (("provenance",), [], "provenance must be an object, found an array"),
    (("duration_seconds",), "1", 'duration_seconds must be a number, found "1"'),
    (("recipes", 0, "from_store"), 1, "recipes[0].from_store must be true or false, found 1"),
    (
        ("recipes", 0, "gates", 0, "valeu"),
        1,
        'recipes[0].gates[0] has an unknown key "valeu"; did you mean value?',
    ),
    (
        ("recipes", 0, "gates", 0, "kind"),
        "drop vs base",
        "gates[0].kind must be one of threshold, drop, gain, must_pass",
    ),
    (("recipes", 0, "gates", 0, "must_pass_failed"), [1], "gates[0].must_pass_failed[0] must be text, found 1"),
    (("recipes", 0, "gates", 0, "drivers"), [], "gates[0].drivers must be an object, found an array"),
    (("recipes", 0, "gates", 0, "drivers"), {"slices": []}, "gates[0].drivers has no failing"),
    (("recipes", 0, "gates", 0, "value"), True, "recipes[0].gates[0].value must be a number, found true"),
    (("recipes", 0, "gates", 0, "reason"), None, "recipes[0].gates[0].reason must be text, found null"),
    (("recipes", 0, "gates", 0, "n"), -1, "recipes[0].gates[0].n must be a whole number from 0"),
    (("recipes", 0, "gates", 0, "n"), 2.5, "recipes[0].gates[0].n must be a whole number from 0"),
    (("recipes", 0, "measures", 0, "n"), 2**60, "recipes[0].measures[0].n must be a whole number from 0"),
    (("recipes", 0, "training", "loss"), [[1, 2, 3]], "training.loss[0] must be a pair of step and loss"),
    (("recipes", 0, "samples"), ["x"], 'recipes[0].samples[0] must be an object, found "x"'),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_a_report_that_is_not_one_is_refused_in_one_line(path: Any, value: Any, message: str) -> None:
    text = changed(path, value)
    with pytest.raises(ReportError) as caught:
        read_report(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    # The schema agrees with the reader.
    assert not Draft202012Validator(SCHEMA).is_valid(json.loads(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "report.json is not JSON"),
        ("{", "report.json is not JSON"),
        ("[]", "the top level must be an object, found an array"),
        ("null", "the top level must be an object, found null"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"schema_version": 3, "duration_seconds": NaN}', "it has NaN"),
        ("[" * 100_000, "nested too deeply"),
        ('{"x": ' + "9" * 5000 + "}", "report.json is not JSON"),
        ('{"\\n::error::boo": 1}', "has an unknown key"),
    ],
)
def test_other_text_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ReportError) as caught:
        read_report(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_number_that_overflows_is_refused() -> None:
    text = report_json(run()).replace('"duration_seconds": 1084.2', '"duration_seconds": 1e999')
    with pytest.raises(ReportError, match="duration_seconds is inf"):
        read_report(text)
