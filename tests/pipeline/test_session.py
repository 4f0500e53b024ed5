"""Recipes, gates and the run record without pytest: what a notebook or the command line would do."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engine.models import LoadedModel
from harness.errors import CapabilityError, GateError, ScoringError
from harness.measures import Measure
from harness.pipeline import Places, RecipeRun, Session
from harness.progress import Silent
from harness.records import Outcome, Scores


def session_in(project: Path, **options: Any) -> Session:
    return Session(Places.below(project), environ={}, allow_training=False, **options)


def second_recipe(project: Path) -> None:
    """The same recipe under another name: it has the same fingerprint, and so the same adapter."""
    folder = project / "fixtures" / "recipes"
    text = (folder / "animals.yaml").read_text()
    (folder / "beasts.yaml").write_text(text.replace("name: animals", "name: beasts"))


# Gates and the record


def test_verdicts_are_recorded_under_ids_of_their_own(project: Path) -> None:
    session = session_in(project)
    classification = session.open("animals").classification()
    accuracy = classification.accuracy
    first = "suites/test_a.py::test_it[animals]"
    session.gate("animals", accuracy, test=first, at_least=0.1)
    session.gate("animals", accuracy, test=first, at_most=1.0)
    session.gate("animals", accuracy, test="suites/test_b.py::test_it[animals]", compared_with="base", max_drop=0.9)
    session.gate(
        "animals", classification.macro_f1, test="suites/test_a.py::TestAll::test_other[animals-x]", at_least=0.1
    )
    ids = [gate.id for gate in session.gates("animals")]
    assert ids == [
        "animals/test_it/classification.accuracy",
        "animals/test_it/classification.accuracy#2",
        "animals/test_it/classification.accuracy#3",
        "animals/test_other/classification.macro_f1",
    ]
    assert [gate.test for gate in session.gates("animals")][:2] == [first, first]

    run = session.finish()
    (recipe,) = run.recipes
    assert [gate.id for gate in recipe.gates] == ids
    assert run.outcome is Outcome.PASS
    assert recipe.from_store is True
    assert recipe.adapter_digest == session.open("animals").adapter().digest
    assert recipe.training is not None
    assert recipe.training.steps == recipe.training.max_steps == 120
    assert len(recipe.training.loss) == 120
    assert len(recipe.training.validation_loss) == 10
    assert recipe.training.validation_loss[-1][1] < recipe.training.validation_loss[0][1]
    assert recipe.data["test"]["examples"] == 24
    measured = {(m.name, m.view): m for m in recipe.measures}
    assert {view for name, view in measured if name == "classification.accuracy"} == {"base", "adapter"}
    shown = measured["classification.accuracy", "adapter"]
    assert shown.value == session.gates("animals")[0].verdict.value
    assert shown.n == 24
    assert [sample["id"] for sample in recipe.samples] == [f"test-{k}" for k in (0, 4, 8, 12, 16, 20)]
    session.close()


def test_the_adapter_learned_what_the_base_does_not_know(project: Path) -> None:
    """Two balanced classes: the base guesses, and a gate on the gain passes."""
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    verdict = session.gate("animals", accuracy, test="t", compared_with="base", min_gain=0.05)
    assert verdict.outcome is Outcome.PASS, verdict.reason
    failed = session.gate("animals", accuracy, test="t", at_most=0.5)
    assert failed.outcome is Outcome.FAIL
    assert session.finish().outcome is Outcome.FAIL
    session.close()


def test_a_gate_that_is_no_rule_is_not_recorded(project: Path) -> None:
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    with pytest.raises(GateError):
        session.gate("animals", accuracy, test="t")
    assert session.gates("animals") == ()
    assert session.finish().outcome is Outcome.INCOMPLETE


def test_a_problem_keeps_a_recipe_from_passing(project: Path) -> None:
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    session.gate("animals", accuracy, test="t", at_least=0.1)
    session.problem("animals", "a test was skipped")
    session.problem("animals", "another failed")
    run = session.finish()
    assert run.outcome is Outcome.INCOMPLETE
    assert run.recipes[0].problem == "a test was skipped\nanother failed"
    session.close()


def test_a_measure_that_cannot_be_had_on_a_view_is_shown_with_its_reason(project: Path) -> None:
    """The base's answers are there, so its measure is wanted for the report; that it fails must not lose the run."""

    def compute(view: str) -> Scores:
        if view != "adapter":
            raise CapabilityError("not defined for the base")
        return Scores("generation.x", view, ("a", "b"), (1.0, 1.0), 2)

    session = session_in(project)
    session.open("animals").answer("base")
    session.gate("animals", Measure("generation.x", compute), test="t", at_least=0.1)
    shown = {m.view: (m.value, m.note) for m in session.finish().recipes[0].measures}
    assert shown == {"base": (None, "not defined for the base"), "adapter": (1.0, "")}
    session.close()


def test_the_run_is_named_after_its_start(project: Path) -> None:
    session = session_in(project, now=lambda: datetime(2026, 11, 2, 9, 5, 7, tzinfo=UTC))
    run = session.finish()
    assert run.run_id.startswith("20261102-090507-")
    assert run.started_at == "2026-11-02T09:05:07+00:00"
    # A notebook may begin two within a second, and a record is never replaced.
    another = session_in(project, now=lambda: datetime(2026, 11, 2, 9, 5, 7, tzinfo=UTC))
    assert another.run_id == f"{run.run_id}-2"


# One model at a time


def test_opening_another_recipe_closes_the_model(project: Path, loads: list[LoadedModel]) -> None:
    second_recipe(project)
    session = session_in(project)
    run = session.open("animals")
    run.score_choices("base")
    run.score_choices("adapter")  # both views from one load
    assert [handle.model is not None for handle in loads] == [True]
    assert session.open("animals") is run
    assert loads[0].model is not None
    other = session.open("beasts")
    assert loads[0].model is None
    assert other.score_choices("adapter").log_likelihoods == run.score_choices("adapter").log_likelihoods
    assert len(loads) == 1  # the store knows the same adapter's answers
    assert session.opened == ("animals", "beasts")
    assert session.open("animals").answer("base").ids == tuple(f"test-{k}" for k in range(24))
    assert len(loads) == 2
    session.close()
    assert all(handle.model is None for handle in loads)


def test_an_adapter_that_does_not_fit_leaves_no_half_changed_base(
    project: Path, loads: list[LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers are on the model when the misfit is found; the base must not answer through them."""
    run = session_in(project).open("animals")
    expected = run.score_choices("base").log_likelihoods
    monkeypatch.setattr("peft.get_peft_model_state_dict", lambda _model: {"another.key": None})
    with pytest.raises(ScoringError, match="does not fit the model"):
        run.score_choices("adapter")
    assert loads[0].model is None
    shutil.rmtree(project / ".harness" / "answers")
    run.choices.clear()
    assert run.score_choices("base").log_likelihoods == expected
    run.close()


def test_measures_read_only_the_labels_that_can_win(project: Path, loads: list[LoadedModel]) -> None:
    run = session_in(project).open("animals")
    predicted = {view: run.classification().accuracy.scores(view).predicted for view in ("base", "adapter")}
    assert any(value is None for row in run.choices["adapter"].log_likelihoods for value in row)
    read = run.choices["adapter"]
    full = run.score_choices("adapter")
    assert run.choices["adapter"] is full
    for some, row in zip(read.log_likelihoods, full.log_likelihoods, strict=True):
        for value, exact in zip(some, row, strict=True):
            assert exact is not None
            assert value is None or value == pytest.approx(exact, abs=1e-3)
    again = run.classification()  # from all labels now, which predict the same
    assert {view: again.accuracy.scores(view).predicted for view in predicted} == predicted
    assert again.probabilities("adapter").sum(axis=1).to_list() == pytest.approx([1.0] * 24)
    run.close()
    warm = session_in(project).open("animals")
    assert warm.likeliest_choices("adapter") == read
    assert warm.score_choices("adapter") == full
    assert len(loads) == 1


def test_labels_that_were_all_scored_are_not_read_again(project: Path, loads: list[LoadedModel]) -> None:
    run = session_in(project).open("animals")
    full = run.score_choices("base")
    run.close()
    warm = session_in(project).open("animals")
    assert warm.likeliest_choices("base") == full
    assert len(loads) == 1


# What the store remembers


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many examples, or items, a model is asked from now on."""
    from harness.engine import capability, choices, generation

    counted: Counter[str] = Counter()

    def watched(module: Any, name: str, kind: str, count: Any) -> None:
        real = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            counted[kind] += count(result)
            return result

        monkeypatch.setattr(module, name, counting)

    watched(choices, "score_options", "choices", lambda result: len(result.ids))
    watched(generation, "generate_answers", "answers", lambda result: len(result.ids))
    watched(capability, "run_task", "capability", lambda result: result.n_expected)
    return counted


WARM = """\
import json, sys
from pathlib import Path
from harness.pipeline import Places, Session

session = Session(Places.below(Path(sys.argv[1])), environ={}, allow_training=False)
run = session.open("animals")
measures = [run.classification().macro_f1, run.generation().exact_match, run.capability("facts").accuracy]
verdicts = [session.gate("animals", m, test="t", compared_with="base", min_gain=0.0) for m in measures]
session.gate("animals", measures[0], test="t", compared_with="prompted_base", min_gain=0.0)
record = session.finish()
heavy = {"torch", "transformers", "peft", "trl", "bitsandbytes", "lm_eval", "datasets"} & set(sys.modules)
print(json.dumps({
    "heavy": sorted(heavy),
    "from_store": record.recipes[0].from_store,
    "verdicts": [[g.id, g.verdict.outcome, g.verdict.value, g.verdict.baseline] for g in record.recipes[0].gates],
}))
"""


def test_a_second_session_takes_everything_from_the_store_without_torch(project: Path) -> None:
    def run() -> dict[str, Any]:
        result = subprocess.run(
            [sys.executable, "-c", WARM, str(project)], capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return found

    session = session_in(project)
    cold = session.open("animals")
    for view in ("base", "adapter"):
        cold.score_choices(view)
        cold.answer(view)
        cold.capability("facts").result(view)
    cold.score_choices("prompted_base")
    cold.integrity()
    expected = [
        cold.classification().macro_f1,
        cold.generation().exact_match,
        cold.capability("facts").accuracy,
    ]
    session.close()
    warm = run()
    assert warm["heavy"] == []
    assert warm["from_store"] is True
    values = [(value, baseline) for _, _, value, baseline in warm["verdicts"]]
    again = [session.gate("animals", m, test="t", compared_with="base", min_gain=0.0) for m in expected]
    assert values[:3] == [(verdict.value, verdict.baseline) for verdict in again]
    assert None not in values[0] + values[1] + values[2]


def test_stored_answers_are_those_that_were_given(project: Path, loads: list[LoadedModel]) -> None:
    first = session_in(project).open("animals")
    made = (first.score_choices("adapter"), first.answer("adapter"), first.capability("facts").result("adapter"))
    first.close()
    second = session_in(project).open("animals")
    assert second.score_choices("adapter") == made[0]
    assert second.answer("adapter") == made[1]
    assert second.capability("facts").result("adapter") == made[2]
    assert made[2].chance == 0.5
    assert len(loads) == 1


def edit_question(project: Path) -> None:
    """One test example asks something else."""
    file = project / "fixtures" / "data" / "test.jsonl"
    file.write_text(file.read_text().replace("405: the", "405: is it the"))


def edit_label(project: Path) -> None:
    """One test example has another right answer; what it asks is the same."""
    file = project / "fixtures" / "data" / "test.jsonl"
    first, rest = file.read_text().split("\n", 1)
    assert '"label": "animal"' in first
    file.write_text(first.replace('"label": "animal"', '"label": "tool"') + "\n" + rest)


def edit_limit(project: Path) -> None:
    file = project / "fixtures" / "recipes" / "animals.yaml"
    file.write_text(file.read_text().replace("max_new_tokens: 8", "max_new_tokens: 7"))


def edit_capability(project: Path) -> None:
    file = project / "fixtures" / "capability" / "facts.jsonl"
    file.write_text(file.read_text().replace("Number 3 is", "The number 3 is"))


@pytest.mark.parametrize(
    ("edit", "asked_again"),
    [
        (edit_question, {"choices": 1, "answers": 1}),
        (edit_label, {}),
        (edit_limit, {"answers": 24}),
        (edit_capability, {"capability": 12}),
    ],
)
def test_only_what_an_edit_concerns_is_asked_again(
    project: Path, asked: Counter[str], edit: Any, asked_again: dict[str, int]
) -> None:
    def measure() -> RecipeRun:
        run = session_in(project).open("animals")
        run.score_choices("adapter")
        run.answer("adapter")
        run.capability("facts").result("adapter")
        run.close()
        return run

    before = measure()
    assert asked == {"choices": 24, "answers": 24, "capability": 12}
    asked.clear()
    edit(project)
    after = measure()
    assert after.from_store is True  # whatever was edited, nothing was trained
    assert after.fingerprint == before.fingerprint
    assert asked == asked_again


def test_an_edited_label_changes_the_score_without_a_model(project: Path, loads: list[LoadedModel]) -> None:
    def accuracy() -> float:
        run = session_in(project).open("animals")
        scores = run.classification().accuracy.scores("adapter")
        run.close()
        return sum(scores.values)

    first = accuracy()
    edit_label(project)
    assert abs(accuracy() - first) == 1
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("damage", "lost"), [(lambda text: text[:-20], 1), (lambda text: text.replace("-", "", 1), 1), (lambda _: "", 24)]
)
def test_damaged_answers_are_asked_again_and_nothing_else(
    project: Path, asked: Counter[str], damage: Any, lost: int
) -> None:
    first = session_in(project).open("animals").score_choices("base")
    ((file,),) = [folder.iterdir() for folder in (project / ".harness" / "answers" / "choices").iterdir()]
    file.write_text(damage(file.read_text()))
    asked.clear()
    lines: list[str] = []

    class Noting(Silent):
        def message(self, line: str) -> None:
            lines.append(line)

    again = session_in(project, progress=Noting()).open("animals").score_choices("base")
    for found, expected in zip(again.log_likelihoods, first.log_likelihoods, strict=True):
        assert found == pytest.approx(expected, rel=0.02)  # bfloat16, in another batch
    assert asked == {"choices": lost}
    assert lines[0] == f"{file}: damaged; {24 - lost} answers in it are whole, the others are made again"


def test_numbers_that_are_none_are_reported_and_not_remembered(
    project: Path, loads: list[LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = session_in(project).open("animals")
    real = RecipeRun._load_base

    def broken(self: RecipeRun) -> LoadedModel:
        loaded = real(self)
        with torch.no_grad():
            loaded.model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
        return loaded

    monkeypatch.setattr(RecipeRun, "_load_base", broken)
    assert all(math.isnan(value) for row in run.score_choices("base").log_likelihoods for value in row)
    task = run.capability("facts").result("base")
    assert task.ids == ()
    assert len(task.unscored) == task.n_expected == 12
    session = session_in(project)
    verdict = session.gate(
        "animals", session.open("animals").classification().accuracy, test="t", view="base", at_least=0.1
    )
    assert verdict.outcome is Outcome.INCOMPLETE
    session.close()
    for folder in ("results", "answers"):
        assert not (project / ".harness" / folder).exists()

    monkeypatch.setattr(RecipeRun, "_load_base", real)
    healed = session_in(project).open("animals")
    assert healed.capability("facts").result("base").unscored == {}
    assert all(math.isfinite(value) for row in healed.score_choices("base").log_likelihoods for value in row)
    healed.close()
