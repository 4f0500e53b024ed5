"""Answers that come in parts: each example is asked once, and what was kept is found again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.pipeline.answers import Answers, some_of
from harness.records import Example, Message, Outputs
from harness.store import Store

EXAMPLES = tuple(Example(f"e{k}", (Message("user", f"{k}?"),), "") for k in range(5))


class Model:
    """Answers with the question; what ends in 3 is cut off."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, examples: Sequence[Example]) -> Outputs:
        self.asked += [example.id for example in examples]
        texts = tuple(example.messages[-1].content for example in examples)
        return Outputs("adapter", tuple(e.id for e in examples), texts, frozenset({"e3"} & {e.id for e in examples}))


def answers(folder: Path, model: Model, **identity: object) -> Answers:
    return Answers("adapter", {"base": "b", **identity}, Store(folder), model)


def test_each_example_is_asked_once(tmp_path: Path) -> None:
    model = Model()
    some = answers(tmp_path, model)
    assert some.texts == {}
    first = some.to(EXAMPLES[2:4], keep=True)
    assert first == Outputs("adapter", ("e2", "e3"), ("2?", "3?"), frozenset({"e3"}))
    assert some.to(EXAMPLES, keep=False).ids == ("e0", "e1", "e2", "e3", "e4")
    assert model.asked == ["e2", "e3", "e0", "e1", "e4"]
    assert some.texts["e4"] == "4?"


def test_what_was_kept_is_found_by_another_run(tmp_path: Path) -> None:
    first = answers(tmp_path, Model())
    whole = first.to(EXAMPLES[:4], keep=True)
    model = Model()
    assert answers(tmp_path, model).to(EXAMPLES[:4], keep=True) == whole
    assert model.asked == []
    # Under the prompt, not the id, and only where all else is the same.
    renamed = (Example("x", EXAMPLES[3].messages, ""),)
    assert answers(tmp_path, model).to(renamed, keep=True) == Outputs("adapter", ("x",), ("3?",), frozenset({"x"}))
    assert model.asked == []
    answers(tmp_path, model, adapter="other").to(EXAMPLES[:1], keep=True)
    reworded = (Example("e0", (Message("user", "0 again?"),), ""),)
    answers(tmp_path, model).to(reworded, keep=True)
    assert model.asked == ["e0", "e0"]


def test_what_is_not_to_be_kept_is_not(tmp_path: Path) -> None:
    answers(tmp_path, Model()).to(EXAMPLES, keep=False)
    assert not list(tmp_path.rglob("*.json"))


def test_a_model_that_fails_loses_nothing_that_came_before(tmp_path: Path) -> None:
    model = Model()
    some = answers(tmp_path, model)
    some.to(EXAMPLES[:2], keep=True)
    some._generate = lambda _: (_ for _ in ()).throw(RuntimeError("no memory"))
    with pytest.raises(RuntimeError):
        some.to(EXAMPLES, keep=True)
    assert answers(tmp_path, Model()).to(EXAMPLES[:2], keep=True).texts == ("0?", "1?")
    assert set(some.texts) == {"e0", "e1"}


def test_a_part_of_whole_outputs() -> None:
    whole = Outputs("base", ("a", "b", "c"), ("1", "2", "3"), frozenset({"a", "c"}))
    assert some_of(whole, ["c", "b", "z"]) == Outputs("base", ("b", "c"), ("2", "3"), frozenset({"c"}))
