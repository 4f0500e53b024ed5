"""What counts as asking less than before."""

from __future__ import annotations

from typing import Any

import pytest

from harness.promotion import loosened

RULE: dict[str, Any] = {
    "at_least": None,
    "at_most": None,
    "compared_with": None,
    "max_drop": None,
    "min_gain": None,
    "decide": "point",
    "confidence": 0.95,
    "must_pass": [],
    "n": None,
}


def gate(name: str = "a/test_it/accuracy", *, examples: int = 24, note: str = "", **asked: Any) -> dict[str, Any]:
    place = {"measure": "accuracy", "view": "adapter", "slice_name": None, "slice_value": None}
    place |= {key: asked.pop(key) for key in list(asked) if key in place}
    return {"id": name, "n": examples, "note": note, "asked": {**RULE, **asked}, **place}


def evidence(*gates: dict[str, Any], **changes: Any) -> dict[str, Any]:
    known = {
        "gates": gates,
        "data": {"train": "t1", "validation": "v1", "test": "e1"},
        "base": {"digest": "b1"},
        "evaluation": {"few_shot": 4},
    }
    return {**known, **changes}


DROP = {"compared_with": "base", "max_drop": 0.05, "decide": "confident"}
GAIN = {"compared_with": "base", "min_gain": 0.1, "decide": "confident"}


@pytest.mark.parametrize(
    ("before", "now", "way"),
    [
        ({"at_least": 0.9}, {"at_least": 0.85}, "at_least=0.85 instead of 0.9"),
        ({"at_least": 0.9}, {"at_most": 0.9}, "at_least=0.9 removed"),
        ({"at_most": 0.1}, {"at_most": 0.2}, "at_most=0.2 instead of 0.1"),
        ({"at_most": 0.1, "at_least": 0.0}, {"at_least": 0.0}, "at_most=0.1 removed"),
        (DROP, {**DROP, "max_drop": 0.06}, "max_drop=0.06 instead of 0.05"),
        (GAIN, {**GAIN, "min_gain": 0.05}, "min_gain=0.05 instead of 0.1"),
        (GAIN, DROP, "min_gain=0.1 removed"),
        (DROP, {**DROP, "decide": "point"}, "decided by the point instead of with confidence"),
        (DROP, {**DROP, "confidence": 0.9}, "confidence 0.9 instead of 0.95"),
        (DROP, {**DROP, "compared_with": "prompted_base"}, "compared with prompted_base instead of base"),
        (
            DROP,
            {"at_least": 0.9},
            "max_drop=0.05 removed, compared with nothing instead of base, decided by the point instead of with "
            "confidence",
        ),
        (
            {"at_least": 0.9, "must_pass": ["t-1", "t-2"]},
            {"at_least": 0.9, "must_pass": ["t-2"]},
            "t-1 no longer must pass",
        ),
        ({"at_least": 0.9}, {"at_least": 0.9, "n": None}, None),
        ({"at_least": 0.9, "n": 24}, {"at_least": 0.9}, "n=24 removed"),
        ({"at_least": 0.9, "n": 24}, {"at_least": 0.9, "n": 20}, "n=20 instead of 24"),
        # As strict or stricter
        ({"at_least": 0.9}, {"at_least": 0.95, "decide": "confident", "confidence": 0.9}, None),
        ({"at_least": 0.9, "confidence": 0.95}, {"at_least": 0.9, "confidence": 0.6}, None),
        ({"at_least": 0.9}, {"at_least": 0.9, "at_most": 0.99, "n": 24, "must_pass": ["t-1"]}, None),
        (DROP, {**DROP, "max_drop": 0.01, "confidence": 0.99}, None),
        (DROP, {**GAIN, "min_gain": 0.0}, None),
        ({"must_pass": ["t-1"], "decide": "confident"}, {"must_pass": ["t-1", "t-2"]}, None),
    ],
)
def test_one_gate(before: dict[str, Any], now: dict[str, Any], way: str | None) -> None:
    changes = loosened(evidence(gate(**before)), evidence(gate(**now)))
    assert changes == (() if way is None else (f"a/test_it/accuracy: {way}",))


def test_fewer_examples_a_stand_in_judge_and_a_rule_that_was_not_recorded() -> None:
    before = evidence(gate(at_least=0.9))
    assert loosened(before, evidence(gate(at_least=0.9, examples=23))) == (
        "a/test_it/accuracy: 23 examples instead of 24",
    )
    assert loosened(before, evidence(gate(at_least=0.9, examples=25))) == ()
    note = "graded by a stand-in, not a judge"
    assert loosened(before, evidence(gate(at_least=0.9, note=note))) == (
        "a/test_it/accuracy: graded by a stand-in judge",
    )
    assert loosened(evidence(gate(at_least=0.9, note=note)), evidence(gate(at_least=0.9, note=note))) == ()
    unknown = {**gate(at_least=0.9), "asked": None}
    for pair in ((before, evidence(unknown)), (evidence(unknown), before)):
        assert loosened(*pair) == ("a/test_it/accuracy: its rule was not recorded and cannot be compared",)


def test_a_gate_that_is_gone_is_removed_and_one_of_another_name_is_not() -> None:
    before = evidence(gate(at_least=0.9), gate("a/test_it/f1", measure="f1", at_least=0.8))
    assert loosened(before, evidence(gate("a/test_new_name/accuracy", at_least=0.9))) == ("a/test_it/f1: removed",)
    assert loosened(before, evidence(*before["gates"], gate("a/test_more/f2", measure="f2", at_least=0.1))) == ()
    sliced = gate(at_least=0.9, slice_name="plan", slice_value="free")
    other = gate(at_least=0.9, slice_name="plan", slice_value="paid")
    assert loosened(evidence(sliced), evidence(other)) == ("a/test_it/accuracy: removed",)
    on_base = gate(at_least=0.9, view="base")
    assert loosened(evidence(gate(at_least=0.9)), evidence(on_base)) == ("a/test_it/accuracy: removed",)


def test_each_demand_has_to_be_kept_by_one_gate_and_the_order_does_not_matter() -> None:
    bar, drop = gate(at_least=0.9), gate("a/test_it/accuracy#2", **DROP)
    assert loosened(evidence(bar, drop), evidence(gate(**DROP), gate("a/test_it/accuracy#2", at_least=0.9))) == ()
    # 0.95 on 20 examples and 0.8 on 24 do not make 0.9 on 24.
    split = (gate(at_least=0.95, examples=20), gate("a/test_it/accuracy#2", at_least=0.8))
    assert loosened(evidence(bar), evidence(*split)) == ("a/test_it/accuracy: 20 examples instead of 24",)


def test_other_examples_another_base_and_fewer_worked_examples() -> None:
    before = evidence(gate(**{**GAIN, "compared_with": "prompted_base"}))
    gates = before["gates"]
    data = {"train": "t2", "validation": "v2", "test": "e1"}
    assert loosened(before, evidence(*gates, data=data)) == ()  # the adapter may be trained on more
    assert loosened(before, evidence(*gates, data={**data, "test": "e2"})) == ("test: other examples",)
    task = {**before["data"], "capability task facts": "c1"}
    assert loosened({**before, "data": task}, before) == ("capability task facts: no longer measured",)
    assert loosened(before, evidence(*gates, base={"digest": "b2"})) == (
        "base: the gates compare with another base model",
    )
    assert loosened(before, evidence(*gates, evaluation={"few_shot": 2})) == (
        "prompted_base: 2 worked examples instead of 4",
    )
    assert loosened(before, evidence(*gates, evaluation={"few_shot": 8})) == ()
    alone = evidence(gate(at_least=0.9))
    assert loosened(alone, evidence(*alone["gates"], base={"digest": "b2"}, evaluation={})) == ()
