"""Finding recipes, extending them, and the paths they name."""

# ruff: noqa: E501 - messages and YAML stand in one piece

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipes import check_recipe, find_recipes, load_recipe

Write = Callable[..., Path]
Problems = Callable[..., list[str]]


def test_defaults(write: Write) -> None:
    recipe = load_recipe(write(""))
    assert recipe.description == ""
    assert recipe.base.revision is None
    assert recipe.quantization == {}
    assert recipe.lora == {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
    assert recipe.training == {"num_train_epochs": 1.0}
    assert recipe.data.system is None
    assert recipe.data.labels == ()
    assert (recipe.evaluation.few_shot, recipe.evaluation.max_new_tokens) == (8, 96)
    assert recipe.evaluation.capability is None
    assert recipe.seed == 0


def test_everything_is_read(write: Write, tmp_path: Path) -> None:
    path = write(
        """
name: full
description: of everything
base: {model: org/model, revision: abc}
quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, llm_int8_skip_modules: [lm_head]}
lora: {r: 4, target_modules: [q_proj, v_proj], init_lora_weights: gaussian, rank_pattern: {q_proj: 2}}
training: {learning_rate: 1e-3, warmup_steps: 0.1, max_steps: 5, max_length: null, lr_scheduler_kwargs: {a: 1}}
data:
  task: classification
  train: train.jsonl
  validation: sub/../validation.jsonl
  test: /abs/test.jsonl
  system: Be brief.
  labels: [yes, no, "1"]
evaluation: {few_shot: 0, max_new_tokens: 5, capability: ../capability}
seed: 7
""",
        "full",
        complete=False,
    )
    recipe = load_recipe(path)
    assert recipe.name == "full"
    assert recipe.description == "of everything"
    assert (recipe.base.model, recipe.base.revision) == ("org/model", "abc")
    assert recipe.quantization["llm_int8_skip_modules"] == ["lm_head"]
    assert recipe.lora["target_modules"] == ["q_proj", "v_proj"]
    assert recipe.lora["rank_pattern"] == {"q_proj": 2}
    assert recipe.training["learning_rate"] == 0.001
    assert recipe.training["max_length"] is None
    assert recipe.data.labels == ("yes", "no", "1")
    assert recipe.data.train == tmp_path / "recipes" / "train.jsonl"
    assert recipe.data.validation == tmp_path / "recipes" / "validation.jsonl"
    assert recipe.data.test == Path("/abs/test.jsonl")
    assert recipe.evaluation.capability == tmp_path / "capability"
    assert recipe.seed == 7
    assert recipe.source == path


def test_a_relative_recipe_path_gives_absolute_paths(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("recipes/example.yaml"))
    assert recipe.source == tmp_path / "recipes" / "example.yaml"
    assert recipe.data.train == tmp_path / "data" / "train.jsonl"


@pytest.mark.parametrize(
    ("written", "loaded"),
    [("./m", "{dir}/m"), ("../m", "{up}/m"), ("/m", "/m"), ("org/m", "org/m"), ("m.v1", "m.v1")],
)
def test_a_base_model_that_starts_like_a_path_is_one(write: Write, tmp_path: Path, written: str, loaded: str) -> None:
    text = f"name: a\nbase: {{model: {written}}}\ndata: {{task: chat, train: t, validation: v, test: e}}\n"
    recipe = load_recipe(write(text, "a", complete=False))
    assert recipe.base.model == loaded.format(dir=tmp_path / "recipes", up=tmp_path)


class TestExtends:
    def test_mappings_merge_and_lists_and_scalars_replace(self, write: Write) -> None:
        write(
            "description: the parent\nlora: {r: 4, target_modules: [a, b], rank_pattern: {x: 1}}\nseed: 3\n",
            "parent",
        )
        child = load_recipe(
            write(
                "name: child\nextends: parent\nlora: {target_modules: [c], rank_pattern: {y: 2}}\n"
                "training: {learning_rate: 1e-3}\ndata: {system: Hello}\n",
                "child",
                complete=False,
            )
        )
        assert child.lora["r"] == 4
        assert child.lora["target_modules"] == ["c"]
        assert child.lora["rank_pattern"] == {"x": 1, "y": 2}
        assert child.training == {"learning_rate": 0.001, "num_train_epochs": 1.0}
        assert child.data.system == "Hello"
        assert child.data.task == "generation"
        assert child.seed == 3
        assert child.description == ""  # speaks of the parent

    def test_null_removes_what_a_parent_set(self, write: Write) -> None:
        write(
            "quantization: {load_in_4bit: true}\nlora: {r: 4, bias: none}\ntraining: {max_length: 99}\n",
            "top",
        )
        write(
            "name: middle\nextends: top\nlora: {bias: null}\ntraining: {max_length: null}\n",
            "middle",
            complete=False,
        )
        bottom = load_recipe(
            write(
                "name: bottom\nextends: middle\nquantization: null\nlora: {r: null}\n",
                "bottom",
                complete=False,
            )
        )
        assert bottom.quantization == {}
        assert bottom.lora["r"] == 16  # the default again
        assert "bias" not in bottom.lora
        assert "max_length" not in bottom.training

    def test_null_where_no_parent_set_anything_is_a_value(self, write: Write) -> None:
        assert load_recipe(write("training: {max_length: null}")).training["max_length"] is None

    def test_paths_are_relative_to_the_file_that_names_them(self, write: Write, tmp_path: Path) -> None:
        shared = tmp_path / "shared"
        shared.mkdir()
        (shared / "base.yaml").write_text(
            "base: {model: ./weights}\ndata: {task: chat, train: t.jsonl, validation: v.jsonl, test: e.jsonl}\n"
            "evaluation: {capability: tasks}\n"
        )
        child = load_recipe(
            write("name: c\nextends: ../shared/base.yaml\ndata: {test: mine.jsonl}\n", "c", complete=False)
        )
        assert child.base.model == str(shared / "weights")
        assert child.data.train == shared / "t.jsonl"
        assert child.data.test == tmp_path / "recipes" / "mine.jsonl"
        assert child.evaluation.capability == shared / "tasks"

    def test_a_problem_is_reported_in_the_file_that_has_it(self, write: Write, problems: Problems) -> None:
        write("lora: {r: 0, lora_dropout: 3, lora_alpha: -1}\n", "parent")
        lines = problems("name: c\nextends: parent\nlora: {lora_dropout: 2}\nseed: x\n", "c", complete=False)
        assert [" ".join(line.split()[:2]) for line in lines] == [
            "parent.yaml: lora.r",
            "c.yaml: lora.lora_dropout",
            "parent.yaml: lora.lora_alpha",
            "c.yaml: seed",
        ]

    def test_what_is_missing_is_missing_in_the_recipe(self, write: Write, problems: Problems) -> None:
        write("data: {task: chat}\n", "part", complete=False)
        lines = problems("name: c\nextends: part\n", "c", complete=False)
        assert len(lines) == 4
        assert all(line.startswith("c.yaml: ") and " is missing. Add it" in line for line in lines)

    def test_the_name_is_not_inherited(self, write: Write, problems: Problems) -> None:
        write("", "parent")
        assert problems("extends: parent\n", "c", complete=False) == [
            "c.yaml: name is missing. Add it: the name of the file without .yaml: small letters, digits, _."
        ]

    def test_circle(self, write: Write, problems: Problems) -> None:
        write("name: b\nextends: a\n", "b", complete=False)
        assert problems("name: a\nextends: ../recipes/b.yaml\n", "a", complete=False) == [
            "b.yaml: extends goes in a circle: a.yaml -> b.yaml -> a.yaml. Remove one of them."
        ]

    def test_itself(self, problems: Problems) -> None:
        assert problems("name: a\nextends: a\n", "a", complete=False) == [
            "a.yaml: extends goes in a circle: a.yaml -> a.yaml. Remove one of them."
        ]

    def test_circle_through_a_link(self, write: Write, problems: Problems, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "recipes")
        assert "in a circle" in problems("name: a\nextends: ../link/a.yaml\n", "a", complete=False)[0]

    def test_too_many_parents(self, write: Write, problems: Problems) -> None:
        write("", "r0")
        for number in range(1, 12):
            write(f"name: r{number}\nextends: r{number - 1}\n", f"r{number}", complete=False)
        assert load_recipe(write("name: x\nextends: r9\n", "x", complete=False)).name == "x"
        assert problems("name: x\nextends: r10\n", "x", complete=False) == [
            "r1.yaml: extends goes over more than 10 files. Shorten the chain."
        ]

    def test_missing_parent(self, write: Write, problems: Problems, tmp_path: Path) -> None:
        write("", "parent")
        at = tmp_path / "recipes"
        assert problems("name: c\nextends: parnet\n", "c", complete=False) == [
            f'c.yaml: extends names "parnet", and {at}/parnet.yaml does not exist. Did you mean parent?'
        ]
        assert problems("name: c\nextends: ./zzz.yaml\n", "c", complete=False) == [
            f'c.yaml: extends names "./zzz.yaml", and {at}/zzz.yaml does not exist. '
            "Name a recipe beside this file, or a path from here."
        ]

    @pytest.mark.parametrize("value", ["3", "[a]", "''", "{a: 1}"])
    def test_not_a_name(self, problems: Problems, value: str) -> None:
        (line,) = problems(f"name: c\nextends: {value}\n", "c", complete=False)
        assert line.startswith("c.yaml: extends must name a recipe or its path, got ")

    def test_a_parent_with_broken_yaml(self, write: Write, problems: Problems) -> None:
        write("name: p\nname: q\n", "p", complete=False)
        (line,) = problems("name: c\nextends: p\n", "c", complete=False)
        assert line.startswith("p.yaml: line 2: the key name stands here again")

    def test_a_section_that_a_child_makes_a_scalar(self, write: Write, problems: Problems) -> None:
        write("", "parent")
        assert problems("name: c\nextends: parent\ndata: 3\n", "c", complete=False) == [
            "c.yaml: data must be a mapping, lines of the form key: value, got 3."
        ]


class TestFindRecipes:
    def test_names_and_files_sorted(self, tmp_path: Path) -> None:
        for name in ("b.yaml", "a_1.yaml", "notes.txt", ".hidden.yaml"):
            (tmp_path / name).write_text("")
        (tmp_path / "sub.yaml").mkdir()
        found = find_recipes(tmp_path)
        assert list(found.items()) == [("a_1", tmp_path / "a_1.yaml"), ("b", tmp_path / "b.yaml")]

    def test_files_that_cannot_be_recipes(self, tmp_path: Path) -> None:
        for name in ("ok.yaml", "My-Recipe.yaml", "old.yml"):
            (tmp_path / name).write_text("")
        with pytest.raises(RecipeError) as caught:
            find_recipes(tmp_path)
        assert caught.value.problems == (
            "My-Recipe.yaml: recipe names are of small letters, digits and _; rename it",
            "old.yml: recipes end in .yaml; rename it to old.yaml",
        )

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"recipe directory .*/none does not exist; create it, or correct"):
            find_recipes(tmp_path / "none")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RecipeError, match=r"recipe directory .*/file is not a directory; create it, or correct"):
            find_recipes(tmp_path / "file")


class TestCheckRecipe:
    def test_no_problem(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for split in ("train", "validation", "test"):
            (tmp_path / "data" / f"{split}.jsonl").write_text("")
        (tmp_path / "tasks").mkdir()
        assert check_recipe(write("evaluation: {capability: ../tasks}\n")) == []

    def test_absent_files_and_directories(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "data" / "test.jsonl").mkdir(parents=True)
        (tmp_path / "data" / "train.jsonl").write_text("")
        path = write("evaluation: {capability: ../tasks}\n")
        assert check_recipe(path) == [
            f"example.yaml: data.validation names {tmp_path}/data/validation.jsonl, which does not exist. Check the path.",
            f"example.yaml: data.test names {tmp_path}/data/test.jsonl, which is a directory. Check the path.",
            f"example.yaml: evaluation.capability names {tmp_path}/tasks, which does not exist.",
        ]
        (tmp_path / "tasks").write_text("")
        assert check_recipe(path)[-1].endswith("/tasks, which is not a directory.")

    def test_problems_of_the_file(self, write: Write) -> None:
        assert check_recipe(write("seed: -1\n")) == ["example.yaml: seed must be at least 0, got -1."]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("[3]", "must name at least 2 seeds, got [3]. Write seed: 3 for one."),
            ("[0, 1, 0]", "must be distinct, got [0, 1, 0]. Remove one."),
            ("[0, -1]", "must be whole numbers from 0 to 4294967295, got [0, -1]."),
            ("3", "must be a list of whole numbers, got 3."),
            ("[0, x]", 'must be a whole number, got "x".'),
        ],
    )
    def test_problems_of_seeds(self, write: Write, given: str, said: str) -> None:
        (problem,) = check_recipe(write(f"seeds: {given}\n"))
        assert problem.startswith("example.yaml: seeds")
        assert problem.endswith(said)
