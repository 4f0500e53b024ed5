"""`harness recipe show`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.pipeline import Places, Session
from harness.recipes import load_recipe, resolved
from harness.store import Store

Harness = Callable[..., tuple[int, str, str]]
AddRecipe = Callable[..., Path]


def facts(out: str) -> dict[str, str]:
    """The comment lines of the output, name -> text."""
    pairs = (line.removeprefix("# ").split(None, 1) for line in out.splitlines() if line.startswith("# "))
    return {name: text for name, text in pairs}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_nothing(store: Path, fingerprint: str) -> Path:
    """Puts a whole adapter into a store, as training would at its end."""
    kept = Store(store)
    with kept.work_folder() as work:
        (work / "adapter_model.safetensors").write_bytes(b"adapter")
        return kept.keep_adapter(work, fingerprint, {"global_step": 4, "max_steps": 4}).folder


def test_the_resolved_values(project: Path, harness: Harness) -> None:
    code, out, err = harness("recipe", "show", "tickets")
    assert (code, err) == (0, "")
    shown = yaml.safe_load(out)
    assert shown == resolved(load_recipe(project / "fixtures" / "recipes" / "tickets.yaml"))
    assert shown["lora"]["r"] == 8
    assert shown["data"]["train"] == "../data/train.jsonl"


def test_the_fingerprint_is_the_one_of_a_run(project: Path, harness: Harness) -> None:
    _, out, _ = harness("recipe", "show", "tickets")
    assert facts(out)["fingerprint"] == Session(Places.below(project)).open("tickets").fingerprint


def test_base_and_data(project: Path, harness: Harness) -> None:
    _, out, _ = harness("recipe", "show", "tickets")
    found = facts(out)
    digest = sha256(project / "fixtures" / "data" / "train.jsonl")
    assert found["train"] == f"3 examples, sha256 {digest[:12]}, ../data/train.jsonl"
    assert found["validation"].startswith("1 example, ")
    assert found["test"].startswith("2 examples, ")
    assert found["base"].startswith("../base, sha256 ")


def test_an_adapter_that_the_store_lacks(project: Path, harness: Harness) -> None:
    _, out, _ = harness("recipe", "show", "tickets")
    assert facts(out)["adapter"] == "not in .harness; the next run trains it"
    assert not (project / ".harness").exists()


def test_an_adapter_that_the_store_has(project: Path, harness: Harness) -> None:
    fingerprint = facts(harness("recipe", "show", "tickets")[1])["fingerprint"]
    train_nothing(project / ".harness", fingerprint)
    assert facts(harness("recipe", "show", "tickets")[1])["adapter"] == f".harness/adapters/{fingerprint}"


def test_a_damaged_adapter_is_not_there(project: Path, harness: Harness) -> None:
    fingerprint = facts(harness("recipe", "show", "tickets")[1])["fingerprint"]
    folder = train_nothing(project / ".harness", fingerprint)
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    assert facts(harness("recipe", "show", "tickets")[1])["adapter"].startswith("not in ")


def test_another_store(project: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = facts(harness("recipe", "show", "tickets")[1])["fingerprint"]
    train_nothing(project / "fixtures" / "elsewhere", fingerprint)
    monkeypatch.chdir(project / "fixtures")
    # --store is relative to the current folder, the environment's to the project's.
    assert facts(harness("recipe", "show", "tickets", "--store", "elsewhere")[1])["adapter"].startswith("elsewhere/")
    monkeypatch.setenv("HARNESS_STORE", "fixtures/elsewhere")
    assert facts(harness("recipe", "show", "tickets")[1])["adapter"].startswith("elsewhere/")


def test_json(project: Path, harness: Harness) -> None:
    code, out, err = harness("recipe", "show", "tickets", "--json")
    assert (code, err) == (0, "")
    shown: dict[str, Any] = json.loads(out)
    run = Session(Places.below(project)).open("tickets")
    assert shown["recipe"] == resolved(run.recipe)
    assert shown["fingerprint"] == run.fingerprint
    assert shown["adapter"] is None
    assert shown["base"]["digest"] == run.base.digest
    test = project / "fixtures" / "data" / "test.jsonl"
    assert shown["data"]["test"] == {"file": "../data/test.jsonl", "examples": 2, "sha256": sha256(test)}
    assert shown["problems"] == []


def test_json_of_an_adapter(project: Path, harness: Harness) -> None:
    fingerprint = json.loads(harness("recipe", "show", "tickets", "--json")[1])["fingerprint"]
    train_nothing(project / ".harness", fingerprint)
    shown = json.loads(harness("recipe", "show", "tickets", "--json")[1])
    kept = Store(project / ".harness").adapter(fingerprint)
    assert kept is not None
    assert shown["adapter"] == {"folder": f".harness/adapters/{fingerprint}", "digest": kept.digest}


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_an_absent_base(project: Path, harness: Harness, arguments: list[str]) -> None:
    (project / "fixtures" / "base" / "model.safetensors").unlink()
    code, out, err = harness("recipe", "show", "tickets", *arguments)
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert "fixtures/base: not a model folder" in line
    shown = yaml.safe_load(out)  # JSON is YAML
    assert (shown["recipe"] if arguments else shown)["lora"]["r"] == 8
    if arguments:
        assert (shown["fingerprint"], shown["adapter"], shown["base"]["digest"]) == (None, None, None)
        assert shown["problems"] == [line.removeprefix("error: ")]
    else:
        assert facts(out)["fingerprint"] == facts(out)["adapter"] == "unknown"
        assert facts(out)["train"].startswith("3 examples, ")


def test_an_absent_data_file(project: Path, harness: Harness) -> None:
    (project / "fixtures" / "data" / "train.jsonl").unlink()
    code, out, err = harness("recipe", "show", "tickets")
    assert code == 1
    assert err == (
        "error: data file fixtures/data/train.jsonl does not exist; correct the path in the recipe, or add it\n"
    )
    assert facts(out)["fingerprint"] == "unknown"
    assert yaml.safe_load(out)["name"] == "tickets"


def test_wrong_data_has_a_fingerprint_and_is_reported(project: Path, harness: Harness) -> None:
    (project / "fixtures" / "data" / "test.jsonl").write_text("nonsense\n")
    code, out, err = harness("recipe", "show", "tickets")
    assert code == 1
    assert err.startswith("error: fixtures/data/test.jsonl:1: not valid JSON")
    assert len(facts(out)["fingerprint"]) == 64
    assert facts(out)["test"].startswith("sha256 ")


def test_an_unknown_recipe(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("other")
    assert harness("recipe", "show", "tikets") == (
        2,
        "",
        "error: there is no recipe 'tikets' in fixtures/recipes; did you mean tickets? "
        "the recipes are other, tickets\n",
    )
    assert "did you mean" not in harness("recipe", "show", "zzz")[2]


def test_an_unknown_recipe_where_there_is_none(project: Path, harness: Harness) -> None:
    (project / "fixtures" / "recipes" / "tickets.yaml").unlink()
    code, _, err = harness("recipe", "show", "tickets")
    assert code == 2
    assert "fixtures/recipes holds none" in err


def test_a_recipe_that_cannot_be_used(project: Path, harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("bad", "sed: 3\nseed: -1\n")
    code, out, err = harness("recipe", "show", "bad")
    assert (code, out) == (1, "")
    assert [line.split(" ")[:3] for line in err.splitlines()] == [
        ["error:", "bad.yaml:", "sed"],
        ["error:", "bad.yaml:", "seed"],
    ]


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[31mred", "a\n::error::b", "x\u202ey", "c1 \x9b2J", "##[error]d", "::warning::e", "line\u2028f"],
    ids=ascii,
)
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_text_of_a_recipe_stays_text(project: Path, harness: Harness, arguments: list[str], hostile: str) -> None:
    text = json.dumps(hostile)
    (project / "fixtures" / "recipes" / "hostile.yaml").write_text(
        f"name: hostile\nextends: tickets\ndescription: {text}\nlora: {{rank_pattern: {{{text}: 2}}}}\n"
    )
    code, out, _ = harness("recipe", "show", "hostile", *arguments)
    assert code == 0
    shown = yaml.safe_load(out)
    recipe = shown["recipe"] if arguments else shown
    assert recipe["description"] == hostile
    assert recipe["lora"]["rank_pattern"] == {hostile: 2}
    assert not set(out) & set("\x1b\x9b\u202e\u2028")
    assert "##[" not in out
    assert not any(line.lstrip().startswith("::") for line in out.splitlines())


def test_readable_text_is_not_escaped(harness: Harness, add_recipe: AddRecipe) -> None:
    add_recipe("cafe", "description: Größe des Cafés\n")
    assert "description: Größe des Cafés\n" in harness("recipe", "show", "cafe")[1]
