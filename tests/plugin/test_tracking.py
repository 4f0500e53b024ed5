"""Trackers and the verdict of a run: whatever a tracker does, outcome, exit status and report are the same."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
import tiny

SUITE = """\
import pytest
from harness.measures import Measure
from harness.records import Scores

pytestmark = pytest.mark.recipes("animals")

def measure(right, n=40):
    def compute(view):
        values = tuple(float(k < right) for k in range(n))
        return Scores("own.good", view, tuple(map(str, range(n))), values, n)
    return Measure("own.good", compute)

# An adapter would have to be trained; the base is only asked what the measure knows.
def test_own(gate):
    gate(measure(39), view="base", at_least=BAR)
"""


@pytest.fixture(params=[0.8, 0.99], ids=["passes", "fails"])
def bar(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bar: float) -> Path:
    for name in ("HARNESS_TRACKING", "MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    model = pytester.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    return tiny.save_project(pytester.path, model, suite=SUITE.replace("BAR", str(bar)))


def choose(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.harness]\n{text}\n", encoding="utf-8")


def verdict(project: Path) -> tuple[str, list[str]]:
    report = json.loads((project / "reports" / "latest" / "report.json").read_text())
    return report["outcome"], report["problems"]


def check(project: Path, result: pytest.RunResult, bar: float) -> None:
    """What the run says without any tracker."""
    passes = bar < 0.9
    assert result.ret == (0 if passes else 1)
    assert verdict(project) == ("pass" if passes else "fail", [])
    result.assert_outcomes(passed=int(passes), failed=int(not passes))


def test_a_tracker_keeps_a_copy(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bar: float
) -> None:
    choose(project, 'tracking = ["wandb"]')
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = pytester.runpytest_subprocess("suites", timeout=120)
    check(project, result, bar)
    result.stdout.fnmatch_lines(["report: reports/*/report.html", "wandb: wandb/offline-run-*"])
    assert len(list(project.glob("wandb/offline-run-*/*.wandb"))) == 1


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "distributed"])
def test_a_tracker_that_is_down_and_one_that_is_not_set_up(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bar: float, options: list[str]
) -> None:
    choose(project, 'tracking = ["wandb", "mlflow"]')
    monkeypatch.setenv("HOME", str(project))  # nobody is logged in
    result = pytester.runpytest_subprocess("suites", *options, timeout=120)
    check(project, result, bar)
    result.stdout.fnmatch_lines(
        [
            "wandb has no copy of this run, whose verdict stands: *API key*",
            "mlflow has no copy of this run, whose verdict stands: MLFLOW_TRACKING_URI is not set; *",
        ]
    )
    assert result.stdout.str().count("whose verdict stands") == 2  # once, not from every worker


def test_a_tracker_that_hangs(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bar: float
) -> None:
    choose(project, 'tracking = ["mlflow"]\ntracking_timeout = 2')
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        result = pytester.runpytest_subprocess("suites", timeout=120)
    check(project, result, bar)
    result.stdout.fnmatch_lines(["mlflow has no copy of this run, whose verdict stands: not done after 2 s, *"])
    assert time.monotonic() - started < 60


def test_nothing_is_tracked_where_the_environment_says_so(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bar: float
) -> None:
    choose(project, 'tracking = ["mlflow"]')
    monkeypatch.setenv("HARNESS_TRACKING", "none")
    result = pytester.runpytest_subprocess("suites", timeout=120)
    check(project, result, bar)
    result.stdout.no_fnmatch_line("*mlflow*")


@pytest.mark.parametrize("bar", [0.8], indirect=True)
def test_settings_that_mean_nothing_end_it_before_anything_runs(
    project: Path, pytester: pytest.Pytester, bar: float
) -> None:
    choose(project, 'tracking = ["mlfow"]')
    result = pytester.runpytest_subprocess("suites", timeout=120)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *[[]tool.harness] tracking names the tracker 'mlfow'; *"])
    assert not (project / "reports").exists()
