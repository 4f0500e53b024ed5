from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import GateError
from harness.measures import RuleMeasure, Structure
from harness.measures.structure import CUT_OFF, headings
from harness.records import Example, Outputs


def structure(*texts: str, truncated: tuple[int, ...] = ()) -> Structure:
    examples = [Example(f"e{k}", (), "") for k in range(len(texts))]
    ids = tuple(e.id for e in examples)
    return Structure(examples, lambda v: Outputs(v, ids, texts, frozenset(f"e{k}" for k in truncated)))


def check(measure: RuleMeasure) -> tuple[list[float], list[str]]:
    """The values, and the reasons of those that are 0."""
    scores = measure.scores("adapter")
    assert scores.problem() is None
    failures = measure.failures("adapter")
    assert [i for i, _ in failures] == [i for i, v in zip(scores.ids, scores.values, strict=True) if v == 0.0]
    return list(scores.values), [reason for _, reason in failures]


def test_regex_searches_or_matches_fully() -> None:
    s = structure("Version 12 or later", "12", "none")
    assert check(s.regex(r"\d+")) == ([1.0, 1.0, 0.0], [r"has no match of '\\d+'"])
    assert check(s.regex(r"\d+", full=True))[0] == [0.0, 1.0, 0.0]
    assert s.regex(r"\d+").name == r"structure.regex[\d+]"


def test_a_cut_off_answer_breaks_every_rule() -> None:
    s = structure("12", "12", truncated=(1,))
    for measure in (s.regex("12"), s.max_words(5), s.ends_with_line("12"), s.json_schema({})):
        assert check(measure) == ([1.0, 0.0], [CUT_OFF])
        assert measure.scores("adapter").note == "1 of 2 answers were cut off at the token limit"


SCHEMA = {
    "title": "ticket",
    "type": "object",
    "properties": {"level": {"enum": ["LOW", "HIGH"]}},
    "required": ["level"],
}


def test_json_schema() -> None:
    s = structure('{"level": "LOW"}', '{"level": "MID"}', "{}", "level: LOW", '```json\n{"level": "LOW"}\n```')
    measure = s.json_schema(SCHEMA)
    assert measure.name == "structure.json_schema[ticket]"
    assert s.json_schema(SCHEMA, name="other").name == "structure.json_schema[other]"
    values, reasons = check(measure)
    assert values == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert reasons[0] == "level: 'MID' is not one of ['LOW', 'HIGH']"
    assert reasons[1] == "'level' is a required property"
    assert all(reason.startswith("is not JSON: ") for reason in reasons[2:])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": NaN}', "is not JSON: NaN is not a JSON number"),
        ('{"a": -Infinity}', "is not JSON: -Infinity is not a JSON number"),
        ('{"a": 1, "a": 2}', "is not JSON: the key 'a' is given twice"),
        ("[" * 100_000, "is not JSON: "),
        ("", "is not JSON: "),
    ],
)
def test_json_must_be_strict(text: str, reason: str) -> None:
    values, (found,) = check(structure(text).json_schema({}))
    assert values == [0.0]
    assert found.startswith(reason)
    assert "\n" not in found


def test_json_schema_that_is_none() -> None:
    with pytest.raises(GateError, match=r"structure\.json_schema: not a JSON Schema: at type: ") as caught:
        structure("x").json_schema({"type": "objekt"})
    assert "\n" not in str(caught.value)
    with pytest.raises(GateError, match="needs a JSON Schema as a dict, got str"):
        structure("x").json_schema("object")  # type: ignore[arg-type]


def test_json_schema_never_fetches_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a $ref was fetched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    measure = structure("{}").json_schema({"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(GateError, match=r"refers to 'http://127\.0\.0\.1:9/schema\.json', which is not in it"):
        measure.scores("adapter")


def test_json_schema_with_its_own_definitions() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/n"}}
    values, reasons = check(structure("[1, 2]", '[1, "b"]').json_schema(schema))
    assert values == [1.0, 0.0]
    assert reasons == ["1: 'b' is not of type 'integer'"]


def test_markdown_sections_in_order() -> None:
    s = structure(
        "# Summary\ntext\n## Extra\n### steps ##\nmore",
        "## Steps\n## Summary\n",
        "## Summary\n",
        "Summary\nSteps\n",
        "## Summary\n```\n## Steps\n```\n",
    )
    measure = s.markdown_sections(["Summary", "Steps"])
    assert measure.name == "structure.markdown_sections[Summary, Steps]"
    values, reasons = check(measure)
    assert values == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert reasons == [
        "the section 'Steps' is not in its place",
        "the section 'Steps' is missing",
        "the section 'Summary' is missing",
        "the section 'Steps' is missing",
    ]


def test_a_section_asked_for_twice_must_be_there_twice() -> None:
    s = structure("# A\n# A\n", "# A\n")
    assert check(s.markdown_sections(["A", "A"]))[0] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("# One\n###### Six\n####### Seven\n#None\n", ["One", "Six"]),
        ("   ## Three blanks\n    ## Code\n", ["Three blanks"]),
        ("## Closed ##  \n## C#\n##\n## a   b\n", ["Closed", "C#", "", "a b"]),
        ("~~~\n# in\n```\n# still in\n~~~\n# out\n", ["out"]),
        ("````\n```\n# in\n````\n# out\n", ["out"]),
        ("```py`\n# no fence\n", ["no fence"]),
        ("```\n# never closed\n", []),
    ],
)
def test_headings(markdown: str, found: list[str]) -> None:
    assert headings(markdown) == found


def test_max_words() -> None:
    s = structure("one two", "one two  three\nfour", "")
    assert check(s.max_words(2)) == ([1.0, 0.0, 1.0], ["has 4 words, more than 2"])
    assert s.max_words(2).name == "structure.max_words[2]"


def test_ends_with_line() -> None:
    s = structure("Text.\nMinimum version: 12\n\n", "Minimum version: 12. Yes", "Minimum version: 12\nBye", "")
    measure = s.ends_with_line(r"Minimum version: \d+")
    values, reasons = check(measure)
    assert values == [1.0, 0.0, 0.0, 0.0]
    assert reasons[1] == r"its last line 'Bye' is not 'Minimum version: \\d+'"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s.regex("(["), r"structure\.regex: '\(\[' is not a regular expression"),
        (lambda s: s.ends_with_line("*"), r"structure\.ends_with_line: '\*' is not a regular expression"),
        (lambda s: s.max_words(0), "max_words needs a whole number of at least 1, got 0"),
        (lambda s: s.max_words(True), "max_words needs a whole number"),
        (lambda s: s.markdown_sections([]), "markdown_sections needs a list of headings, got \\[\\]"),
        (lambda s: s.markdown_sections("Summary"), "needs a list of headings, got 'Summary'"),
    ],
)
def test_rules_that_are_none(make: Callable[[Structure], RuleMeasure], said: str) -> None:
    with pytest.raises(GateError, match=said):
        make(structure("x"))


def test_an_answer_that_is_missing_is_unscored_and_no_failure() -> None:
    s = Structure([Example("a", (), ""), Example("b", (), "")], lambda view: Outputs(view, ("b",), ("x y",)))
    measure = s.max_words(1)
    assert measure.scores("base").ids == ("b",)
    assert measure.scores("base").unscored == {"a": "no answer from the view base"}
    assert measure.failures("base") == [("b", "has 2 words, more than 1")]


def test_answers_to_other_examples_are_left_out() -> None:
    s = Structure([Example("a", (), "")], lambda view: Outputs(view, ("a", "z"), ("x", "y")))
    assert s.regex("x").scores("base").ids == ("a",)
