"""[tool.harness] and HARNESS_TRACKING."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import TrackingError
from harness.tracking import TrackingSettings, tracking_settings


def settings(root: Path, text: str | None, **environ: str) -> TrackingSettings:
    if text is not None:
        (root / "pyproject.toml").write_text(text, encoding="utf-8")
    return tracking_settings(root, environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, TrackingSettings()),
        ("", TrackingSettings()),
        ("[tool.ruff]\nline-length = 100\n", TrackingSettings()),
        ("[tool.harness]\n", TrackingSettings()),
        ('[tool.harness]\ntracking = ["mlflow"]\n', TrackingSettings(("mlflow",))),
        ('[tool.harness]\ntracking = ["wandb", "mlflow", "wandb"]\n', TrackingSettings(("wandb", "mlflow"))),
        ('[tool.harness]\ntracking = ["mlflow"]\ntracking_timeout = 5\n', TrackingSettings(("mlflow",), 5.0)),
        ('tool.harness = {tracking = ["mlflow"]}\n', TrackingSettings(("mlflow",))),
    ],
)
def test_what_a_project_chose(tmp_path: Path, text: str | None, expected: TrackingSettings) -> None:
    assert settings(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("chosen", "trackers"),
    [("wandb", ("wandb",)), ("wandb, mlflow", ("wandb", "mlflow")), ("none", ()), ("", ("mlflow",))],
)
def test_the_environment_goes_first(tmp_path: Path, chosen: str, trackers: tuple[str, ...]) -> None:
    found = settings(tmp_path, '[tool.harness]\ntracking = ["mlflow"]\n', HARNESS_TRACKING=chosen)
    assert found.trackers == trackers


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('tracking = ["mlfow"]', "tracking names the tracker 'mlfow'; the trackers are mlflow, wandb"),
        ('tracking = "mlflow"', "tracking must be a list of names, got 'mlflow'; write [\"mlflow\"], for instance"),
        ("tracking = [1]", 'tracking must be a list of names, got [1]; write ["mlflow"], for instance'),
        ('trakcing = ["mlflow"]', "has an unknown key trakcing; did you mean tracking?"),
        ("tracking_timeout = 0", "tracking_timeout must be seconds above 0, got 0; 60 is the default"),
        ("tracking_timeout = inf", "tracking_timeout must be seconds above 0, got inf; 60 is the default"),
        ("tracking_timeout = true", "tracking_timeout must be seconds above 0, got True; 60 is the default"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(TrackingError, match=re.escape(f"pyproject.toml: [tool.harness] {complaint}")):
        settings(tmp_path, f"[tool.harness]\n{text}\n")


def test_an_unknown_tracker_in_the_environment(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"^HARNESS_TRACKING names the tracker 'none'; the trackers are"):
        settings(tmp_path, None, HARNESS_TRACKING="mlflow,none")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("harness = [", "cannot be read as TOML ("),
        ("[tool]\nharness = 3\n", "harness must be a table, got 3; write [tool.harness]"),
        ("tool = 'harness'", "tool must be a table, got 'harness'; write [tool.harness]"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(TrackingError, match=re.escape(f"pyproject.toml: {complaint}")):
        settings(tmp_path, text)


def test_a_broken_file_of_a_project_without_the_harness_is_not_its_concern(tmp_path: Path) -> None:
    assert settings(tmp_path, "x = [") == TrackingSettings()


def test_other_tables_below_the_harness_are_left_alone(tmp_path: Path) -> None:
    text = '[tool.harness]\ntracking = ["wandb"]\n[tool.harness.promotion]\nmax_age = "7d"\n'
    assert settings(tmp_path, text).trackers == ("wandb",)
