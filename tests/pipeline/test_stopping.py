"""Gates that stop early on a real model: how many answers are generated and judged, and what is kept of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.engine.models import LoadedModel
from harness.errors import GateError
from harness.judging import Answer, Grade
from harness.measures import Measure
from harness.pipeline import Places, Session
from harness.pipeline.grading import StoredGrades
from harness.records import Outcome, Outputs, Scores

N = 96


@dataclass
class ReferenceJudge:
    """Grades 5 for the reference answer and 1 for any other; keeps what it was asked."""

    name: str = "reference"
    note: str = ""
    criteria: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        self.asked += [item.id for item in items]
        return [Grade(item.id, 5.0 if item.response == item.reference else 1.0) for item in items]


@pytest.fixture
def project(project: Path) -> Path:
    """The test set is in no fingerprint, so the adapter is found."""
    tiny.write_rows(project / "fixtures" / "data" / "test.jsonl", tiny.rows("test", N, seed=0))
    return project


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """View and id of every answer that is generated from now on."""
    from harness.engine import generation

    seen: list[tuple[str, str]] = []
    real = generation.generate_answers

    def recording(model: Any, tokenizer: Any, examples: Any, **options: Any) -> Outputs:
        seen.extend((options["view"], example.id) for example in examples)
        return real(model, tokenizer, examples, **options)

    monkeypatch.setattr(generation, "generate_answers", recording)
    return seen


def session_in(project: Path) -> Session:
    session = Session(Places.below(project), environ={}, allow_training=False)
    session.open("animals")
    return session


def test_no_more_is_generated_than_the_verdict_takes(
    project: Path, generated: list[tuple[str, str]], loads: list[LoadedModel]
) -> None:
    session = session_in(project)
    run = session.open("animals")
    generation = run.generation()
    verdict = session.gate("animals", generation.exact_match, test="t", at_least=0.3, early_stop=True, n=N)
    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert verdict.out_of == N
    assert verdict.n <= len(generated) < verdict.n + 16
    assert len(generated) < N / 2
    assert run.outputs == {}

    # The same examples serve other gates and measures, and the rest is asked when all are needed, once.
    once = list(generated)
    session.gate("animals", generation.exact_match, test="t", at_least=0.3, early_stop=True)
    shape = run.structure().regex(r"animal|tool", full=True)
    assert session.gate("animals", shape, test="t", at_least=0.3, early_stop=True).out_of == N
    assert generated == once
    whole = session.gate("animals", generation.exact_match, test="t", at_least=0.3)
    assert (whole.n, whole.out_of) == (N, None)
    assert len(generated) == len(set(generated)) == N
    assert set(run.answer("adapter").ids) == {example.id for example in run.splits.test}
    session.close()

    # The next run asks nothing, and says the same.
    later = session_in(project)
    again = later.gate(
        "animals", later.open("animals").generation().exact_match, test="t", at_least=0.3, early_stop=True, n=N
    )
    assert again == verdict
    assert len(generated) == N
    assert len(loads) == 1
    later.close()


def test_what_was_answered_is_kept_for_the_next_run(project: Path, generated: list[tuple[str, str]]) -> None:
    session = session_in(project)
    first = session.gate(
        "animals", session.open("animals").generation().exact_match, test="t", at_least=0.3, early_stop=True
    )
    run = session.finish()
    session.close()
    early = len(generated)
    later = session_in(project)
    exact = later.open("animals").generation().exact_match
    assert later.gate("animals", exact, test="t", at_least=0.3, early_stop=True) == first
    assert len(generated) == early
    scores = exact.scores("adapter")
    assert len(generated) == N
    later.close()

    # Asked in parts or all at once, the answers are the same.
    for folder in ("results", "answers"):
        shutil.rmtree(project / ".harness" / folder, ignore_errors=True)
    fresh = session_in(project)
    assert fresh.open("animals").generation().exact_match.scores("adapter") == scores
    assert len(generated) == 2 * N
    fresh.close()

    # The report has the measure on the part that was answered, and says so; nothing more was asked for it.
    (recipe,) = run.recipes
    (shown,) = recipe.measures
    assert (shown.view, shown.value, shown.n, shown.low) == ("adapter", first.value, first.n, first.low)
    assert shown.note.startswith(f"stopped early, {first.n} of {N} examples")
    answered = {example_id for _, example_id in generated[:early]}
    assert {sample["id"] for sample in recipe.samples} <= answered
    assert all(sample["answers"]["adapter"] for sample in recipe.samples)


def test_a_comparison_asks_both_views_the_same(project: Path, generated: list[tuple[str, str]]) -> None:
    session = session_in(project)
    exact = session.open("animals").generation().exact_match
    verdict = session.gate("animals", exact, test="t", compared_with="base", min_gain=0.1, early_stop=True)
    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert verdict.n < N / 2
    by_view = {view: {i for v, i in generated if v == view} for view in ("adapter", "base")}
    assert by_view["adapter"] == by_view["base"]
    assert verdict.n <= len(by_view["base"]) < verdict.n + 16
    measures = {(m.view, m.n, m.value) for m in session.finish().recipes[0].measures}
    assert measures == {("adapter", verdict.n, verdict.value), ("base", verdict.n, verdict.baseline)}
    session.close()


RUBRIC = """\
name: animals
task: Say what the animal or tool is.
criteria:
  right:
    weight: 1.0
    anchors: {1: wrong, 2: nearly wrong, 3: half right, 4: nearly right, 5: right}
"""


def test_a_judge_is_asked_only_for_what_the_verdict_takes(project: Path, generated: list[tuple[str, str]]) -> None:
    rubric = project / "fixtures" / "rubrics" / "animals.yaml"
    rubric.parent.mkdir()
    rubric.write_text(RUBRIC)
    session = session_in(project)
    run = session.open("animals")
    judge = ReferenceJudge()
    judged = run._judged(StoredGrades(judge, "rubric", "code", run.store))
    verdict = session.gate("animals", judged.score, test="t", at_least=2.5, early_stop=True)
    assert verdict.outcome is Outcome.PASS, verdict.reason
    early = len(judge.asked)
    assert verdict.n <= early < verdict.n + 16
    assert {example_id for _, example_id in generated} == set(judge.asked)
    session.gate("animals", judged.score, test="t", at_least=2.5, early_stop=True)
    assert len(judge.asked) == early
    # All of them: the rest, each once.
    assert session.gate("animals", judged.score, test="t", at_least=2.5).n == N
    assert len(judge.asked) == len(set(judge.asked)) == N
    session.close()

    later = session_in(project)
    known = ReferenceJudge()
    run = later.open("animals")
    judged = run._judged(StoredGrades(known, "rubric", "code", run.store))
    assert later.gate("animals", judged.score, test="t", at_least=2.5, early_stop=True) == verdict
    assert known.asked == []
    later.close()


def test_what_cannot_stop_early_is_refused_before_anything_is_measured(
    project: Path, generated: list[tuple[str, str]], loads: list[LoadedModel]
) -> None:
    session = session_in(project)
    run = session.open("animals")

    def compute(view: str) -> Scores:
        raise AssertionError("must not be asked")

    for measure in (
        run.classification().macro_f1,
        run.classification().accuracy,
        run.classification().generated.accuracy,
        run.capability("facts").accuracy,
        Measure("mine.score", compute),
    ):
        with pytest.raises(GateError) as caught:
            session.gate("animals", measure, test="t", at_least=0.5, early_stop=True)
        assert str(caught.value) == (
            f"{measure.name}: early_stop is for means over answers that are asked for one by one: the measures of "
            "generation, structure and judge. Label scores, F1 and capability tasks are computed of all examples "
            "together; leave early_stop out."
        )
    exact = run.generation().exact_match
    with pytest.raises(GateError, match="Leave early_stop or slices out"):
        session.gate_slices("animals", exact, test="t", slices="half", at_least=0.5, early_stop=True)
    with pytest.raises(GateError, match="must_pass names examples that early_stop may leave out"):
        session.gate("animals", exact, test="t", must_pass=["test-0"], at_least=0.5, early_stop=True)
    assert session.gates("animals") == ()
    assert (generated, loads) == ([], [])
