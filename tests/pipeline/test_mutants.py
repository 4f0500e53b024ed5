"""Adapters that must not pass, each a real folder that the store takes for whole, and the reason that each is given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutants
import pytest

from harness.engine.models import LoadedModel
from harness.pipeline import Places, RecipeRun, Session
from harness.records import Outcome, Run, Verdict
from harness.report import read_report, report_html, report_json, summary_md

TEST = "suites/test_a.py::test_it[animals]"
CHECKS = [
    "keys_loaded",
    "weights_not_zero",
    "weights_finite",
    "tokenizer_unchanged",
    "logits_finite",
    "logits_changed",
    "steps_complete",
    "loss_fell",
]


def session_in(project: Path, **options: Any) -> Session:
    return Session(Places.below(project), environ={}, **{"allow_training": False, **options})


def gated(project: Path, **options: Any) -> tuple[list[Verdict], Run]:
    """What the three kinds of gates say of the project's adapter, asked as leniently as they can be."""
    session = session_in(project, **options)
    accuracy = session.open("animals").classification().accuracy
    asked: list[dict[str, Any]] = [
        {"at_least": 0.0},
        {"compared_with": "base", "max_drop": 0.99},
        {"view": "prompted_base", "compared_with": "adapter", "max_drop": 0.99},
    ]
    verdicts = [session.gate("animals", accuracy, test=TEST, **rule) for rule in asked]
    run = session.finish()
    session.close()
    return verdicts, run


def failed(run: Run) -> list[str]:
    return [check.name for check in run.recipes[0].integrity if not check.passed]


# A sound adapter


def test_a_sound_adapter_passes_every_check_and_is_checked_once(project: Path, loads: list[LoadedModel]) -> None:
    verdicts, run = gated(project)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASS] * 3, [verdict.reason for verdict in verdicts]
    assert [check.name for check in run.recipes[0].integrity] == CHECKS
    assert failed(run) == []
    assert run.outcome is Outcome.PASS
    details = {check.name: check.detail for check in run.recipes[0].integrity}
    assert details["weights_not_zero"] == "14 of 14 B matrices are not zero"  # 2 layers of 7 linear maps
    assert details["keys_loaded"] == "28 keys, none missing and none unknown"
    assert details["steps_complete"] == "training made 120 of 120 steps"
    assert read_report(report_json(run)) == run
    again, rerun = gated(project)
    assert again == verdicts
    assert rerun.recipes[0].integrity == run.recipes[0].integrity
    assert len(loads) == 1  # the second session finds the checks in the store


def test_gates_on_the_base_alone_check_nothing(project: Path) -> None:
    mutants.zero(mutants.adapter_folder(project))
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    verdict = session.gate("animals", accuracy, test=TEST, view="base", at_least=0.0)
    assert verdict.outcome is Outcome.PASS
    assert session.finish().recipes[0].integrity == ()
    session.close()


def test_other_examples_are_asked_anew(project: Path, loads: list[LoadedModel]) -> None:
    session_in(project).open("animals").integrity()
    file = project / "fixtures" / "data" / "test.jsonl"
    file.write_text(file.read_text().replace("400: the", "400: is it the"))
    session_in(project).open("animals").integrity()
    assert len(loads) == 2


# Adapters that are not sound


@pytest.mark.parametrize(
    ("mutant", "checks", "reason"),
    [
        (
            mutants.zero,
            ["weights_not_zero", "logits_changed"],
            "all 14 B matrices are zero, so the adapter is one before training and equals its base",
        ),
        (
            mutants.untrained,
            ["weights_not_zero", "logits_changed"],
            "all 14 B matrices are zero, so the adapter is one before training and equals its base",
        ),
        (mutants.mute, ["logits_changed"], "switching the adapter on changes no logit on 4 test examples"),
        (
            mutants.not_a_number,
            ["weights_finite", "logits_finite", "logits_changed"],
            "1 of 28 tensors hold values that are not finite, first base_model.model.model.layers.1.mlp.down_proj",
        ),
        (mutants.other_keys, ["keys_loaded"], "does not fit the model: 28 keys missing, 28 unknown, first base_model"),
        (mutants.other_rank, ["keys_loaded"], "PEFT cannot load this adapter (RuntimeError: "),
        (
            mutants.other_template,
            ["tokenizer_unchanged"],
            "the chat template in the adapter's folder differs from the base's: it was trained on other tokens",
        ),
        (mutants.no_tokenizer, ["tokenizer_unchanged"], "the adapter's tokenizer cannot be read ("),
        (mutants.rising_loss, ["loss_fell"], "the training loss did not fall ("),
        (mutants.no_loss, ["loss_fell"], "the manifest has no training loss"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_unsound_adapter_is_incomplete_at_every_gate(
    project: Path, mutant: Callable[[Path], None], checks: list[str], reason: str
) -> None:
    mutant(mutants.adapter_folder(project))
    verdicts, run = gated(project)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.INCOMPLETE] * 3
    for verdict in verdicts:
        assert verdict.reason.startswith("Not decided: the adapter is not sound: ")
        assert reason in verdict.reason
        assert (verdict.value, verdict.n) == (None, 0)
    assert run.outcome is Outcome.INCOMPLETE
    assert failed(run) == checks
    assert run.recipes[0].measures == ()  # nothing was measured
    assert not (project / ".harness" / "answers" / "choices").exists()
    assert read_report(report_json(run)) == run
    assert "Integrity of the adapter" in report_html(run)
    assert "❌ Integrity of the adapter: " in summary_md(run)


def test_slices_of_an_unsound_adapter_are_incomplete_too(project: Path) -> None:
    mutants.zero(mutants.adapter_folder(project))
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    verdicts = session.gate_slices("animals", accuracy, test=TEST, slices="half", min_n=5, at_least=0.0)
    assert [(v.slice_name, v.slice_value, v.outcome) for v in verdicts] == [("half", None, Outcome.INCOMPLETE)]
    assert session.gates("animals")[0].id == "animals/test_it/classification.accuracy{half}"
    session.close()


def test_an_unsound_adapter_leaves_a_base_that_answers_as_before(project: Path) -> None:
    """PEFT has put its layers on the model when it refuses the weights."""
    expected = session_in(project).open("animals").score_choices("base").log_likelihoods
    shutil.rmtree(project / ".harness" / "answers")
    mutants.other_rank(mutants.adapter_folder(project))
    run = session_in(project).open("animals")
    assert [check.name for check in run.integrity() if not check.passed] == ["keys_loaded"]
    assert run.score_choices("base").log_likelihoods == expected
    run.close()


def test_a_check_that_failed_is_made_again(project: Path, loads: list[LoadedModel]) -> None:
    folder = mutants.adapter_folder(project)
    weights = (folder / mutants.WEIGHTS).read_bytes()
    mutants.zero(folder)
    for _ in range(2):
        session_in(project).open("animals").integrity()
    assert len(loads) == 2
    (folder / mutants.WEIGHTS).write_bytes(weights)
    mutants.reseal(folder)
    assert all(check.passed for check in session_in(project).open("animals").integrity())


# Sound adapters that learned the wrong thing


def retrained(project: Path, label: Callable[[list[str]], list[str]]) -> tuple[list[Verdict], RecipeRun]:
    """Gates that the adapter of the same recipe with right labels passes."""
    mutants.relabel(project, label)
    session = session_in(project, allow_training=True)
    run = session.open("animals")
    accuracy = run.classification().accuracy
    verdicts = [
        session.gate("animals", accuracy, test=TEST, at_least=0.7),
        session.gate("animals", accuracy, test=TEST, compared_with="base", min_gain=0.05),
    ]
    assert all(check.passed for check in run.integrity())
    assert session.finish().outcome is Outcome.FAIL
    session.close()
    return verdicts, run


def test_right_labels_pass(project: Path) -> None:
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    assert session.gate("animals", accuracy, test=TEST, at_least=0.7).outcome is Outcome.PASS
    assert session.gate("animals", accuracy, test=TEST, compared_with="base", min_gain=0.05).outcome is Outcome.PASS
    session.close()


def test_a_constant_answer_does_not_pass(project: Path) -> None:
    (threshold, gain), run = retrained(project, mutants.one_label)
    assert all(animal > tool for animal, tool in run.score_choices("adapter").log_likelihoods)
    assert threshold.outcome is Outcome.FAIL
    assert threshold.reason.startswith("0.500 [")  # half of the test set are animals
    assert threshold.reason.endswith("is not at least 0.700.")
    assert gain.outcome is not Outcome.PASS


def test_a_constant_answer_passes_no_judged_gate(project: Path) -> None:
    """Asked for the lowest grade there is, of an adapter that is sound and says one word to everything."""
    rubrics = project / "fixtures" / "rubrics"
    rubrics.mkdir()
    anchors = "{1: wrong, 2: nearly wrong, 3: half right, 4: nearly right, 5: right}"
    (rubrics / "animals.yaml").write_text(
        f"name: animals\ntask: Says what a thing is.\ncriteria: [{{name: right, weight: 1.0, anchors: {anchors}}}]\n"
    )
    mutants.relabel(project, mutants.one_label)
    session = session_in(project, allow_training=True)
    run = session.open("animals")
    judge = run.judge()
    verdicts = [
        session.gate("animals", judge.score, test=TEST, at_least=1.0),
        session.gate("animals", judge.win_rate, test=TEST, compared_with="base", at_least=0.0),
        session.gate("animals", judge.robustness, test=TEST, at_least=0.0),
    ]
    assert set(run.answer("adapter").texts) == {"animal"}
    for verdict in verdicts:
        assert verdict.outcome is Outcome.INCOMPLETE
        assert verdict.reason.startswith("Not decided: 24 of 24 answers of adapter are the same text, 'animal', and a ")
    assert session.finish().outcome is Outcome.INCOMPLETE
    session.close()


def test_shuffled_labels_do_not_pass(project: Path) -> None:
    (threshold, gain), _ = retrained(project, mutants.shuffled)
    assert threshold.outcome is Outcome.FAIL
    assert "is not at least 0.700." in threshold.reason
    assert gain.outcome is not Outcome.PASS


# Answers and test sets that are not what they seem


@pytest.mark.parametrize("read", ["score_choices", "likeliest_choices"])
def test_the_bases_answers_under_the_adapters_name_do_not_pass(project: Path, read: str) -> None:
    """A cache whose key forgets the adapter: the adapter is sound, and its answers are another's."""
    run = session_in(project).open("animals")
    run.integrity()
    getattr(run, read)("base")
    folder = project / ".harness" / "answers" / "choices"
    (base,) = folder.iterdir()
    getattr(run, read)("adapter")
    run.close()
    (adapter,) = set(folder.iterdir()) - {base}
    shutil.rmtree(adapter)
    shutil.copytree(base, adapter)
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    verdicts = [
        session.gate("animals", accuracy, test=TEST, compared_with="base", max_drop=0.99),
        *session.gate_slices(
            "animals", accuracy, test=TEST, slices="half", min_n=5, compared_with="base", max_drop=0.99
        ),
    ]
    for verdict in verdicts:
        assert verdict.outcome is Outcome.INCOMPLETE
        assert verdict.reason.startswith("Not decided: the label scores of the adapter are those of the base to the")
    assert session.finish().outcome is Outcome.INCOMPLETE


def test_half_a_test_set_does_not_pass_for_the_whole(project: Path) -> None:
    mutants.halve_test_set(project)
    session = session_in(project)
    accuracy = session.open("animals").classification().accuracy
    verdict = session.gate("animals", accuracy, test=TEST, at_least=0.0, n=24)
    assert verdict.outcome is Outcome.INCOMPLETE
    assert verdict.reason.startswith("Not decided: the gate declares n=24 and the test set has 12 examples.")
    session.close()
