"""What a session adds to a gate: ids, texts and answers that explain it, notes on the measures. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.errors import GateError
from harness.measures import Measure
from harness.pipeline import Places, RecipeRun, Session
from harness.records import IntegrityCheck, Outcome, Outputs, Scores

TEST = "suites/test_a.py::test_it[animals]"


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no adapter here to check; tests/pipeline/test_mutants.py does it with real ones."""
    monkeypatch.setattr(RecipeRun, "integrity", lambda _run: (IntegrityCheck("keys_loaded", True, "28 keys"),))


@pytest.fixture
def session(project: Path) -> Session:
    made = Session(Places.below(project), environ={}, allow_training=False)
    made.open("animals")
    return made


def measure(session: Session, name: str, wrong: set[str], **fields: Any) -> Measure:
    """1 for each test example but the wrong ones; the base is right everywhere, unless `fields` says otherwise."""
    examples = session.open("animals").splits.test
    base_wrong = fields.pop("base_wrong", set())

    def compute(view: str) -> Scores:
        bad = base_wrong if view == "base" else wrong
        return Scores(
            measure=name,
            view=view,
            ids=tuple(e.id for e in examples),
            values=tuple(float(e.id not in bad) for e in examples),
            n_expected=len(examples),
            slices={"half": tuple(e.slices["half"] for e in examples)},
            **fields,
        )

    return Measure(name, compute)


def test_verdicts_of_a_slice_have_ids_of_their_own(session: Session) -> None:
    exact = measure(session, "generation.exact_match", set())
    for _ in range(2):
        session.gate_slices("animals", exact, test=TEST, slices="half", min_n=12, at_least=0.5)
    session.gate("animals", exact, test=TEST, at_least=0.5)
    session.gate_slices("animals", exact, test=TEST, slices=["half"], min_n=13, at_least=0.5)
    name = "animals/test_it/generation.exact_match"
    assert [gate.id for gate in session.gates("animals")] == [
        f"{name}{{half=0}}",
        f"{name}{{half=1}}",
        f"{name}{{half=0}}#2",
        f"{name}{{half=1}}#2",
        name,
        f"{name}{{half}}",
    ]
    run = session.finish()
    assert run.outcome is Outcome.INCOMPLETE
    assert [(m.name, m.view) for m in run.recipes[0].measures] == [("generation.exact_match", "adapter")]


def test_a_gate_that_is_no_slice_is_not_recorded(session: Session) -> None:
    exact = measure(session, "generation.exact_match", set())
    with pytest.raises(GateError, match="there is no slice 'hlaf'; its slices: half"):
        session.gate_slices("animals", exact, test=TEST, slices="hlaf", at_least=0.5)
    with pytest.raises(GateError, match="must_pass names 'test-99'"):
        session.gate("animals", exact, test=TEST, must_pass=["test-99"])
    assert session.gates("animals") == ()


def test_the_questions_and_answers_explain_a_verdict(project: Path) -> None:
    """A test set of which each third question is on a broken thing, and these are the wrong ones."""
    lines = tiny.rows("test", 60, seed=0)
    for line in lines[::3]:
        line["text"] = f"{line['text']}, broken"
    tiny.write_rows(project / "fixtures" / "data" / "test.jsonl", lines)
    session = Session(Places.below(project), environ={}, allow_training=False)
    run = session.open("animals")
    ids = [e.id for e in run.splits.test]
    wrong = set(ids[::3])
    run.outputs["adapter"] = Outputs("adapter", tuple(ids), ("no idea",) * 60)
    exact = measure(session, "generation.exact_match", wrong)
    drivers = session.gate("animals", exact, test=TEST, compared_with="base", max_drop=0.01).drivers
    assert drivers is not None
    assert (drivers.failing, drivers.n_failing) == (tuple(ids[:15:3]), 20)
    assert [(term.term, term.failing, term.others) for term in drivers.terms] == [("broken", 20, 0)]
    named = session.gate("animals", exact, test=TEST, must_pass=ids[:1])
    assert named.reason.endswith("test-0 has 0 of 1, answered 'no idea'.")
    # The items of a capability task are others, though they may have the same ids.
    facts = measure(session, "capability.facts.accuracy", wrong)
    assert session.gate("animals", facts, test=TEST, must_pass=ids[:1]).reason.endswith("test-0 has 0 of 1.")
    undecided = session.gate("animals", facts, test=TEST, at_least=0.9)
    assert undecided.drivers is not None
    assert undecided.drivers.terms == ()


def test_what_is_not_informative_is_noted_at_the_measure(session: Session) -> None:
    ids = [e.id for e in session.open("animals").splits.test]
    guessed = measure(session, "capability.facts.accuracy", set(), base_wrong=set(ids[:12]), chance=0.5)
    known = measure(session, "capability.known.accuracy", set(), base_wrong=set(ids[:2]), chance=0.5)
    constant = measure(
        session,
        "classification.accuracy",
        set(),
        truth=("animal",) * 24,
        predicted=("animal",) * 24,
        labels=("animal", "tool"),
    )
    outcomes = [
        session.gate("animals", one, test=TEST, compared_with="base", max_drop=0.9).outcome
        for one in (guessed, known, constant)
    ]
    assert outcomes == [Outcome.INCOMPLETE, Outcome.PASS, Outcome.INCOMPLETE]
    notes = {(m.name, m.view): m.note for m in session.finish().recipes[0].measures}
    for view in ("base", "adapter"):
        assert notes["capability.facts.accuracy", view] == (
            "not informative: 0.500 of base is not above guessing (0.500) by more than 0.05"
        )
        assert notes["capability.known.accuracy", view] == ""
        assert notes["classification.accuracy", view] == "not informative: all 24 examples have the label 'animal'"
