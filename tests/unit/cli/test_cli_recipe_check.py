"""`harness recipe check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Harness = Callable[..., tuple[int, str, str]]
AddRecipe = Callable[..., Path]


def test_one_valid_recipe(project: Path, harness: Harness) -> None:
    assert harness("recipe", "check") == (0, "1 recipe is valid\n", "")


def test_several_valid_recipes(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("other")
    assert harness("recipe", "check") == (0, "2 recipes are valid\n", "")


def test_every_problem_of_every_file(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("bad", "training: {learning_rat: 1}\nseed: -1\n")
    add_recipe("worse", "sed: 3\n")
    code, out, err = harness("recipe", "check")
    assert (code, out) == (1, "")
    assert [line.split(" ")[:2] for line in err.splitlines()] == [
        ["bad.yaml:", "training.learning_rat"],
        ["bad.yaml:", "seed"],
        ["worse.yaml:", "sed"],
    ]


def test_a_problem_of_a_shared_parent_is_named_once(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("parent", "seed: -1\n")
    for child in ("one", "two"):
        (project / "fixtures" / "recipes" / f"{child}.yaml").write_text(f"name: {child}\nextends: parent\n")
    code, _, err = harness("recipe", "check")
    assert code == 1
    assert err == "parent.yaml: seed must be at least 0, got -1.\n"


def test_an_absent_data_file(project: Path, harness: Harness) -> None:
    (project / "fixtures" / "data" / "test.jsonl").unlink()
    code, _, err = harness("recipe", "check")
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith("tickets.yaml: data.test names ")
    assert line.endswith("test.jsonl, which does not exist. Check the path.")


def test_a_misnamed_file_does_not_hide_the_others(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("bad", "seed: -1\n")
    add_recipe("Tickets-2")
    (project / "fixtures" / "recipes" / "old.yml").write_text("name: old\n")
    code, _, err = harness("recipe", "check")
    assert code == 1
    assert [line.split(":")[0] for line in err.splitlines()] == ["Tickets-2.yaml", "old.yml", "bad.yaml"]


@pytest.mark.parametrize("path", ["fixtures/recipes", "fixtures/recipes/tickets.yaml"])
def test_a_path_is_relative_to_the_current_folder(project: Path, harness: Harness, path: str) -> None:
    assert harness("recipe", "check", path) == (0, "1 recipe is valid\n", "")


def test_a_path_is_checked_alone(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    bad = add_recipe("bad", "seed: -1\n")
    assert harness("recipe", "check", "fixtures/recipes/tickets.yaml")[0] == 0
    assert harness("recipe", "check", str(bad))[0] == 1


def test_an_absent_path(project: Path, harness: Harness) -> None:
    assert harness("recipe", "check", "nowhere") == (
        2,
        "",
        "error: nowhere: no such file or folder; name a recipe file or a folder of recipes\n",
    )


def test_a_file_that_is_no_recipe_by_its_name(project: Path, harness: Harness) -> None:
    assert harness("recipe", "check", "pytest.ini") == (
        2,
        "",
        "error: pytest.ini: recipe files end in .yaml; rename it, or name another file\n",
    )


def test_no_recipe_is_not_a_pass(project: Path, harness: Harness) -> None:
    assert harness("recipe", "check", "fixtures/data") == (
        2,
        "",
        "error: fixtures/data: no recipe is here; recipes are files of the form NAME.yaml\n",
    )


def test_no_recipes_folder(project: Path, harness: Harness) -> None:
    (project / "pytest.ini").write_text("[pytest]\nharness_recipes = elsewhere\n")
    code, out, err = harness("recipe", "check")
    assert (code, out) == (2, "")
    assert err == (
        f"error: the recipes' folder {project / 'elsewhere'} does not exist; go to your project's folder, "
        "or set harness_recipes in its pytest.ini or pyproject.toml\n"
    )


def test_from_a_folder_below(project: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "fixtures" / "data")
    assert harness("recipe", "check") == (0, "1 recipe is valid\n", "")


def test_data_counts(project: Path, harness: Harness) -> None:
    assert harness("recipe", "check", "--data") == (
        0,
        "tickets: 3 train, 1 validation, 2 test examples\n1 recipe is valid, and so is the data\n",
        "",
    )


def test_data_is_read_only_when_asked(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    train = project / "fixtures" / "data" / "train.jsonl"
    train.write_text('{"id": "a", "instruction": "q", "output": ""}\nnot JSON\n')
    assert harness("recipe", "check")[0] == 0
    code, out, err = harness("recipe", "check", "--data")
    assert code == 1
    assert "valid" not in out
    assert [line.split(": ")[0] for line in err.splitlines()] == [
        "fixtures/data/train.jsonl:1",
        "fixtures/data/train.jsonl:2",
    ]


def test_data_leakage_between_splits(project: Path, harness: Harness) -> None:
    data = project / "fixtures" / "data"
    leaked = (data / "train.jsonl").read_text().splitlines()[0].replace("train-0", "test-9")
    with (data / "test.jsonl").open("a") as file:
        file.write(f"{leaked}\n")
    code, _, err = harness("recipe", "check", "--data")
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith('fixtures/data/test.jsonl:3: test example "test-9" is also in train')


def test_data_of_valid_recipes_beside_one_that_is_not(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("bad", "seed: -1\n")
    code, out, err = harness("recipe", "check", "--data")
    assert code == 1
    assert out == "tickets: 3 train, 1 validation, 2 test examples\n"
    assert err == "bad.yaml: seed must be at least 0, got -1.\n"
