"""One recipe in one run, as far as no model is needed: fingerprint, prompts, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from harness.errors import (
    AdapterMissing,
    BaseModelError,
    CapabilityError,
    DataError,
    GateError,
    RecipeError,
    RubricError,
)
from harness.pipeline import Places, RecipeRun, Session
from harness.records import Message


def opened(project: Path, name: str = "animals", **options: bool) -> RecipeRun:
    return Session(Places.below(project), environ={}, **options).open(name)


def recipe_file(project: Path) -> Path:
    return project / "fixtures" / "recipes" / "animals.yaml"


def edit_recipe(project: Path, old: str, new: str) -> None:
    text = recipe_file(project).read_text()
    assert old in text
    recipe_file(project).write_text(text.replace(old, new))


def edit_data(project: Path, split: str) -> None:
    """One word of one example."""
    file = project / "fixtures" / "data" / f"{split}.jsonl"
    file.write_text(file.read_text().replace("03: the", "03: is it the"))


# Fingerprint

CHANGES: dict[str, Callable[[Path], object]] = {
    "train": lambda p: edit_data(p, "train"),
    "validation": lambda p: edit_data(p, "validation"),
    "seed": lambda p: edit_recipe(p, "seed: 0", "seed: 1"),
    "rank": lambda p: edit_recipe(p, "r: 16", "r: 8"),
    "rate": lambda p: edit_recipe(p, "5.0e-3", "4.0e-3"),
    "system message": lambda p: edit_recipe(p, "  labels:", "  system: Answer briefly.\n  labels:"),
    "labels": lambda p: edit_recipe(p, "[animal, tool]", "[animal, tool, plant]"),
    "base weights": lambda p: (p.parent / "model" / "model.safetensors").write_bytes(b"other weights"),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "test": lambda p: edit_data(p, "test"),
    "evaluation": lambda p: edit_recipe(p, "{few_shot: 2, max_new_tokens: 8}", "{few_shot: 4, max_new_tokens: 9}"),
    "description": lambda p: edit_recipe(p, "name: animals\n", "name: animals\ndescription: for a zoo\n"),
    "moved": lambda p: p.rename(p.parent / "elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_changes_the_adapter_changes_the_fingerprint(project: Path, change: Callable[[Path], object]) -> None:
    before = opened(project).fingerprint
    change(project)
    assert opened(project).fingerprint != before


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES.keys())
def test_what_does_not_change_the_adapter_does_not_change_the_fingerprint(
    project: Path, change: Callable[[Path], object]
) -> None:
    before = opened(project).fingerprint
    change(project)
    where = project if project.exists() else project.parent / "elsewhere"
    assert opened(where).fingerprint == before


@pytest.mark.parametrize("names", ["training code", "versions"])
def test_code_and_versions_are_in_the_fingerprint(project: Path, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    before = opened(project).fingerprint
    target, value = {
        "training code": ("code_digest", lambda *_modules: "other"),
        "versions": ("library_versions", lambda *_names: {"torch": "0.1"}),
    }[names]
    monkeypatch.setattr(f"harness.pipeline.evaluation.{target}", value)
    assert opened(project).fingerprint != before


def test_a_fingerprint_that_cannot_be_had_is_none(project: Path) -> None:
    (project / "fixtures" / "data" / "train.jsonl").unlink()
    run = opened(project)
    assert run.fingerprint_if_known() is None
    with pytest.raises(DataError, match=r"train\.jsonl"):
        run.adapter()


# Prompts


def test_base_and_adapter_are_asked_the_test_examples(project: Path) -> None:
    run = opened(project)
    assert run.examples("base") == run.examples("adapter") == run.splits.test


def test_prompted_base_sees_balanced_examples_after_the_system_message(project: Path) -> None:
    system = "Is it an animal or a tool?"
    edit_recipe(project, "  labels:", f"  system: {system}\n  labels:")
    edit_recipe(project, "few_shot: 2", "few_shot: 6")
    run = opened(project)
    label_of = {example.messages[-1].content: example.label for example in run.splits.train}
    asked = run.examples("prompted_base")
    assert [example.id for example in asked] == [example.id for example in run.splits.test]
    for example, original in zip(asked, run.splits.test, strict=True):
        first, *turns, question = example.messages
        assert first == Message("system", system)
        assert question == original.messages[-1]
        assert [turn.role for turn in turns] == ["user", "assistant"] * 6
        shots = list(zip(turns[::2], turns[1::2], strict=True))
        assert all(label_of[user.content] == assistant.content for user, assistant in shots)
        assert Counter(assistant.content for _, assistant in shots) == {"animal": 3, "tool": 3}
        assert len({user.content for user, _ in shots}) == 6
        assert example.expected == original.expected
    assert len({example.messages[:-1] for example in asked}) == 1  # the same examples before every question


def test_the_examples_of_prompted_base_follow_the_seed(project: Path) -> None:
    first, again = opened(project).examples("prompted_base"), opened(project).examples("prompted_base")
    assert first == again
    edit_recipe(project, "seed: 0", "seed: 1")
    assert opened(project).examples("prompted_base") != first


def test_no_examples_is_the_bare_prompt(project: Path) -> None:
    edit_recipe(project, "few_shot: 2", "few_shot: 0")
    run = opened(project)
    assert run.examples("prompted_base") == run.splits.test


def test_more_examples_than_there_are_is_refused(project: Path) -> None:
    edit_recipe(project, "few_shot: 2", "few_shot: 97")
    with pytest.raises(DataError, match="few_shot asks for 97 examples, and the training set has 96"):
        opened(project).examples("prompted_base")


# What is refused


def test_an_unknown_view_names_the_views(project: Path) -> None:
    with pytest.raises(GateError, match="no view 'other'; the views are base, prompted_base, promoted, adapter"):
        opened(project).examples("other")


def test_classification_without_labels_names_what_to_use(project: Path) -> None:
    edit_recipe(project, "task: classification", "task: generation")
    edit_recipe(project, "  labels: [animal, tool]\n", "")
    for split in ("train", "validation", "test"):
        rows = [
            {"id": row["id"], "instruction": row["text"], "output": row["label"]} for row in tiny.rows(split, 8, seed=0)
        ]
        tiny.write_rows(project / "fixtures" / "data" / f"{split}.jsonl", rows)
    run = opened(project)
    with pytest.raises(
        GateError,
        match=r"^animals: the fixture `classification` needs data\.task: classification, and it is generation\. "
        r"Use `generation`, `structure` or `judge`\.$",
    ):
        run.classification()
    assert run.generation() is not None
    assert run.structure() is not None


def test_a_judge_without_a_rubric_names_the_file(project: Path) -> None:
    with pytest.raises(RubricError, match=r"fixtures/rubrics/animals\.yaml"):
        opened(project).judge()


def test_capability_has_no_prompted_base(project: Path) -> None:
    task = opened(project).capability("facts")
    with pytest.raises(
        CapabilityError, match="capability task facts: the view prompted_base has no meaning here; use base"
    ):
        task.result("prompted_base")


def test_a_capability_task_is_one_object_a_run(project: Path) -> None:
    run = opened(project)
    assert run.capability("facts") is run.capability("facts")


def test_training_that_is_not_allowed_names_the_ways_out(project: Path) -> None:
    run = opened(project, allow_training=False)
    with pytest.raises(
        AdapterMissing,
        match=rf"^animals: no adapter with fingerprint {run.fingerprint[:12]} in {project / '.harness'}, and "
        r"--harness-no-train forbids training\. Run once without it, or point --harness-store at a store that has "
        r"it\.$",
    ):
        run.adapter()
    assert not (project / ".harness").exists()


def test_data_is_checked_before_an_adapter_is_looked_for(project: Path) -> None:
    """A test example that was trained on is not measured on."""
    data = project / "fixtures" / "data"
    leaked = json.loads((data / "train.jsonl").read_text().splitlines()[0])
    with (data / "test.jsonl").open("a") as stream:
        stream.write(json.dumps({**leaked, "id": "leaked"}) + "\n")
    with pytest.raises(DataError, match=r"test\.jsonl:25: test example \"leaked\" is also in train"):
        opened(project, allow_training=False).adapter()


def test_the_problems_of_all_three_files_are_reported_at_once(project: Path) -> None:
    for split in ("train", "validation", "test"):
        file = project / "fixtures" / "data" / f"{split}.jsonl"
        file.write_text(file.read_text().replace('"label": "tool"', '"label": "toll"', 1))
    with pytest.raises(DataError) as error:
        opened(project).adapter()
    assert len(error.value.problems) == 3
    for split, problem in zip(("train", "validation", "test"), error.value.problems, strict=True):
        assert f"{split}.jsonl:2: " in problem
        assert "toll" in problem


def test_a_base_model_that_is_absent_is_reported(project: Path) -> None:
    (project.parent / "model" / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="not a model folder"):
        opened(project).adapter()


def test_an_unknown_recipe_names_those_there_are(project: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe 'animal' in .*; it has: animals$"):
        opened(project, "animal")


def test_a_session_without_a_recipe_used_none(project: Path) -> None:
    session = Session(Places.below(project), environ={})
    assert not session.used
    assert session.recipe_names() == ("animals",)
    run = session.finish()
    assert run.outcome == "incomplete"
    assert run.recipes == ()


def test_chosen_places_replace_the_defaults(tmp_path: Path) -> None:
    places = Places.below(tmp_path, store=tmp_path / "s", reports=None)
    assert places.store == tmp_path / "s"
    assert places.reports == tmp_path / "reports"
    assert places.recipes == tmp_path / "fixtures" / "recipes"
