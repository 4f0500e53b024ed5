"""What the terminal says of fails and of weak gates, on measures of the suite's own. Nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny

from harness.pipeline import RecipeRun
from harness.records import IntegrityCheck

SUITE = """\
import pytest
from harness.measures import Measure
from harness.records import Scores

pytestmark = pytest.mark.recipes("animals")

def measure(name, right, n=100):
    def compute(view):
        count = n if view == "base" else right
        values = tuple(float(k < count) for k in range(n))
        return Scores(name, view, tuple(map(str, range(n))), values, n)
    return Measure(name, compute)

def test_own(gate):
    gate(measure("own.far", 20), at_least=0.8)
    gate(measure("own.near", 79), at_least=0.8)
    gate(measure("own.same", 99), compared_with="base", max_drop=0.02)
    gate(measure("own.good", 99), compared_with="base", max_drop=0.2)
"""


@pytest.fixture
def report(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    model = pytester.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    tiny.save_project(pytester.path, model, suite=SUITE)
    # There is no adapter here to check; tests/pipeline/test_mutants.py does it with real ones.
    monkeypatch.setattr(RecipeRun, "integrity", lambda _run: (IntegrityCheck("keys_loaded", True, "28 keys"),))
    result = pytester.runpytest_inprocess("suites")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "  failed *own.far *at least 0.800",
            "*own.far: 0.200 *A fail also after correction for several gates (Holm).*",
            "*own.near: 0.790 *Not after correction for several gates (Holm):*",
            "1 gate asks more than the test set is likely to decide; plan with `harness plan`",
            "  animals  own.same: an adapter exactly as good as base would pass on * % of such test sets of 100*",
        ]
    )
    found: dict[str, object] = json.loads((pytester.path / "reports" / "latest" / "report.json").read_text())
    return found


def test_fails_are_told_apart_and_weak_gates_are_named(report: dict[str, object]) -> None:
    (recipe,) = report["recipes"]  # type: ignore[misc]
    gates = recipe["gates"]
    assert [gate["after_holm"] for gate in gates] == [True, False, None, None]
    assert [bool(gate["warning"]) for gate in gates] == [False, False, True, False]
    assert report["outcome"] == "fail"


def test_a_suites_own_measure_is_planned(report: dict[str, object], pytester: pytest.Pytester) -> None:
    path = Path("plan.json")
    assert pytester.runpytest_inprocess("suites", f"--harness-plan={path}").ret == 0
    (recipe,) = json.loads((pytester.path / path).read_text())["recipes"]
    # 1 of 100 differs, and one example of each kind is added.
    assert [gate["n"] for gate in recipe["gates"]] == [100] * 4
    assert recipe["gates"][2]["rests_on"] == {"discordance": 2 / 102}
