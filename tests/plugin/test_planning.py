"""`--harness-plan`: gates without a model. Nothing here trains; what the store has is written by the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.records import Example

SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_classes(classification, gate):
    gate(classification.accuracy, compared_with="base", max_drop=0.1)
    gate(classification.macro_f1, at_least=0.5)
    gate(classification.f1_by_label["tool"], at_least=0.5)
    gate(classification.accuracy, at_least=0.5, slices="half", min_n=10)

def test_text(generation, structure, gate):
    gate(generation.rougeL, at_least=0.5)
    gate(generation.exact_match, at_least=0.5)
    gate(structure.regex("a"), at_least=0.5)

def test_facts(capability, gate):
    facts, arc = capability("facts", "arc_easy")
    gate(facts.accuracy, compared_with="base", max_drop=0.1)
    gate(arc.accuracy, compared_with="base", max_drop=0.1)

def test_judge(judge, gate):
    gate(judge.score, at_least=3.0)
    gate(judge.score_by_criterion["short"], at_least=3.0)

def test_without_a_gate(adapter):
    raise RuntimeError("must not run")

def test_without_a_recipe():
    raise RuntimeError("must not run")
"""
RUBRIC = """\
name: animals
task: The assistant says what a thing is.
criteria:
  - {name: short, weight: 1.0, anchors: {1: long, 2: rather long, 3: a line, 4: some words, 5: one word}}
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """The tiny project with a base model that cannot be loaded."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    model = pytester.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    return tiny.save_project(pytester.path, model, suite=SUITE)


def planned(pytester: pytest.Pytester, *options: str) -> dict[str, Any]:
    result = pytester.runpytest_inprocess("suites", "--harness-plan=plan.json", *options)
    document: dict[str, Any] = json.loads((pytester.path / "plan.json").read_text())
    assert result.ret == (1 if document["problems"] else 0)
    return document


def gates(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (recipe,) = document["recipes"]
    return {f"{gate['measure']} {gate['slice_value'] or ''}".strip(): gate for gate in recipe["gates"]}


def test_gates_are_recorded_and_nothing_else_happens(project: Path, pytester: pytest.Pytester) -> None:
    suite = project / "suites" / "test_animals.py"
    text, _, rest = suite.read_text().partition("def test_judge")
    suite.write_text(text + "def test_without" + rest.partition("def test_without")[2])
    document = planned(pytester)
    assert (document["problems"], document["skipped"]) == ([], [])
    found = gates(document)
    assert {name: gate["n"] for name, gate in found.items()} == {
        "classification.accuracy": 24,
        "classification.macro_f1": 24,
        "classification.f1[tool]": 24,
        "classification.accuracy 0": 12,
        "classification.accuracy 1": 12,
        "generation.rougeL": 24,
        "generation.exact_match": 24,
        "structure.regex[a]": 24,
        "capability.facts.accuracy": 12,
        "capability.arc_easy.accuracy": None,
    }
    assert not any(gate["measured"] for gate in found.values())
    assert found["generation.rougeL"]["rests_on"] == {"spread": 0.25}
    assert found["generation.exact_match"]["rests_on"] == {}
    assert found["capability.facts.accuracy"]["rests_on"] == {"discordance": 0.15}
    assert found["classification.f1[tool]"]["problem"] == "f1 of one label has none"
    assert "after its first run" in found["capability.arc_easy.accuracy"]["problem"]
    assert not (project / "reports").exists()
    assert not (project / ".harness").exists()


def test_what_the_store_has_is_used(project: Path, pytester: pytest.Pytester) -> None:
    """An adapter and both views' label scores, as a run leaves them: 6 of 24 answers differ."""
    from harness.pipeline import Places, Session

    run = Session(Places.below(project)).open("animals")
    with run.store.work_folder() as work:
        (work / "adapter_model.safetensors").write_bytes(b"weights")
        manifest = {"global_step": 1, "max_steps": 1}
        run.store.keep_adapter(work, run.fingerprint, manifest)
    labels = ("animal", "tool")
    wrong = {"adapter": 2, "base": 8}

    def score(view: str, examples: Sequence[Example], keep: Callable[[str, Any], None], *, every: bool) -> None:
        for k, e in enumerate(examples):
            keep(e.id, [0.0 if (label == e.label) == (k >= wrong[view]) else -1.0 for label in labels])

    run._score = score  # type: ignore[method-assign]  # where a run would load the model
    for view in wrong:
        run.likeliest_choices(view)
    found = gates(planned(pytester, "-k", "classes or text"))
    gate = found["classification.accuracy"]
    assert gate["measured"]
    assert gate["rests_on"] == {"discordance": 7 / 26}
    assert found["classification.macro_f1"]["measured"]
    assert found["classification.macro_f1"]["margin"] == pytest.approx(0.416, abs=0.005)
    assert not found["generation.exact_match"]["measured"]


def test_a_judge_is_not_asked(project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.judging import anthropic_judge

    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-a-key")
    asked: list[Any] = []
    for method in ("grade", "arriving"):
        monkeypatch.setattr(anthropic_judge.AnthropicJudge, method, lambda _self, items: asked.append(items))
    folder = project / "fixtures" / "rubrics"
    folder.mkdir()
    (folder / "animals.yaml").write_text(RUBRIC)
    document = planned(pytester, "-k", "judge")
    assert document["problems"] == []
    assert [(gate["problem"], gate["rests_on"]) for gate in gates(document).values()] == [("", {"spread": 1.0})] * 2
    assert asked == []


def test_planning_imports_no_training_library(project: Path) -> None:
    heavy = "{'torch', 'transformers', 'peft', 'trl', 'bitsandbytes', 'lm_eval', 'anthropic', 'sentence_transformers'}"
    program = (
        "import sys, pytest\n"
        "status = pytest.main(['suites', '-q', '-k', 'not judge', '--harness-plan=plan.json'])\n"
        f"print('loaded', sorted({heavy} & set(sys.modules)))\n"
        "raise SystemExit(status)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "loaded []" in result.stdout


def test_a_gate_that_stops_early_is_planned_on_all_examples(project: Path, pytester: pytest.Pytester) -> None:
    rubrics = project / "fixtures" / "rubrics"
    rubrics.mkdir()
    (rubrics / "animals.yaml").write_text(RUBRIC)
    (project / "suites" / "test_animals.py").write_text(
        "import pytest\npytestmark = pytest.mark.recipes('animals')\n\n"
        "def test_text(generation, gate):\n"
        "    gate(generation.exact_match, compared_with='base', max_drop=0.1, early_stop=True)\n\n"
        "def test_judge(judge, gate):\n"
        "    gate(judge.score, at_least=3.0, early_stop=True)\n\n"
        "def test_classes(classification, gate):\n"
        "    gate(classification.macro_f1, at_least=0.5, early_stop=True)\n\n"
        "def test_slices(generation, gate):\n"
        "    gate(generation.exact_match, at_least=0.5, slices='half', early_stop=True)\n"
    )
    document = planned(pytester)
    asked = gates(document)
    assert set(asked) == {"generation.exact_match", "judge.score"}
    for gate in asked.values():
        assert (gate["n"], gate["confidence"]) == (24, 0.95)
        assert gate["note"].endswith("planned at the 96 % confidence that stopping early leaves for all examples")
    said = " ".join(document["problems"])
    assert "classification.macro_f1: early_stop is for means over answers" in said
    assert "early_stop is for the whole test set" in said
