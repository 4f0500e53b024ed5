from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Harness = Callable[..., tuple[int, str, str]]

SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("tickets")

def test_match(generation, gate):
    gate(generation.exact_match, compared_with="base", max_drop=0.05)
    gate(generation.rougeL, at_least=0.5)
"""


@pytest.fixture
def suites(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's suites, with 100 test examples; pytest there must not read this repository's options."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    lines = [json.dumps({"id": f"t-{k}", "instruction": f"test {k}", "output": f"answer {k}"}) for k in range(100)]
    (project / "fixtures" / "data" / "test.jsonl").write_text("\n".join(lines))
    folder = project / "suites"
    folder.mkdir()
    (folder / "test_tickets.py").write_text(SUITE)
    return folder


def test_every_gate_has_a_row_and_nothing_is_left_behind(harness: Harness, suites: Path, project: Path) -> None:
    before = sorted(project.rglob("*"))
    code, out, err = harness("plan")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "tickets: 2 gates"
    assert lines[1].split() == ["decides", "needed", "n", "rests", "on", "measure", "rule"]
    # 382: docs/statistics.md has the same question of 150 examples.
    assert lines[2].split()[1:5] == ["382", "100", "assumed", "generation.exact_match"]
    assert lines[2].endswith("drop vs base at most 0.050")
    assert lines[3].endswith("generation.rougeL       at least 0.500 (by the estimate)")
    assert lines[4] == "  assumed: discordance 0.15, spread a quarter of the range; a run measures them"
    assert max(map(len, lines)) < 120
    left = [path for path in sorted(project.rglob("*")) if path not in before and "__pycache__" not in path.parts]
    assert left == []


def test_the_same_as_json(harness: Harness, suites: Path) -> None:
    code, out, _ = harness("plan", "tickets", "--json", "--suites", "suites/test_tickets.py")
    assert code == 0
    (recipe,) = json.loads(out)["recipes"]
    drop, rouge = recipe["gates"]
    assert (drop["n"], drop["needed"], drop["margin"], drop["measured"]) == (100, 382, 0.05, False)
    assert drop["rests_on"] == {"discordance": 0.15}
    assert drop["test"] == "suites/test_tickets.py::test_match[tickets]"
    assert (rouge["decide"], rouge["needed"], rouge["rests_on"]) == ("point", None, {"spread": 0.25})


def test_an_unknown_recipe(harness: Harness, suites: Path) -> None:
    assert harness("plan", "ticket") == (
        2,
        "",
        "error: there is no recipe 'ticket' in fixtures/recipes; did you mean tickets? the recipes are tickets\n",
    )


def test_no_suites(harness: Harness, project: Path) -> None:
    assert harness("plan") == (2, "", "error: there are no suites at suites; name them with --suites\n")


def test_no_gate(harness: Harness, suites: Path) -> None:
    (suites / "test_tickets.py").write_text("def test_it():\n    pass\n")
    code, out, err = harness("plan", "tickets")
    assert (code, out) == (2, "")
    assert err.startswith("error: no test in suites asks a gate of tickets; write one")


WRONG = [
    ("assert gate(generation.exact_match, at_least=0.5).value > 0.7", "TypeError: '>' not supported"),
    ("gate(generation.exact_match, at_least=float('nan'))", "at_least must be a finite number, got nan"),
    ("gate(generation.exact_match, at_least=0.5, slices='plan')", "there is no slice 'plan'"),
    ("gate(generation.exact_match, must_pass=['t-100'])", "must_pass names 't-100'"),
    ("adapter.folder.name", "the test reads adapter.folder, and there is no adapter before the first run"),
    ("pass", "the test uses the fixture `gate` and decided no gate"),
]


def test_suites_that_raise(harness: Harness, suites: Path) -> None:
    """What the other tests ask is planned all the same. One process for all, as each takes seconds."""
    with (suites / "test_tickets.py").open("a") as file:
        file.writelines(
            f"\ndef test_{k}(generation, adapter, gate):\n    {body}\n" for k, (body, _) in enumerate(WRONG)
        )
        file.write("\n@pytest.mark.skip\ndef test_skipped(generation, gate):\n    pass\n")
    code, out, err = harness("plan")
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == len(WRONG)
    for k, (line, (_, said)) in enumerate(zip(lines, WRONG, strict=True)):
        assert line.startswith(f"error: suites/test_tickets.py::test_{k}[tickets]: ")
        assert said in line
    assert out.startswith("tickets: 3 gates\n")
    assert out.endswith("suites/test_tickets.py::test_skipped[tickets] was skipped; its gates are not planned\n")


def test_a_suite_that_cannot_be_read(harness: Harness, suites: Path) -> None:
    (suites / "test_tickets.py").write_text("import no_such_module\n")
    code, out, err = harness("plan")
    assert (code, out) == (1, "")
    assert err == "error: suites/test_tickets.py: ModuleNotFoundError: No module named 'no_such_module'\n"


def test_options_of_the_project_that_pytest_refuses(harness: Harness, suites: Path, project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    code, _, err = harness("plan")
    assert code == 1
    assert "pytest ended with exit status 4 before it ran a test" in err
