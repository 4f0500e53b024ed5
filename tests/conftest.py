"""Fixtures that several test folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny llama."""
    return tiny.save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def _closed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a hub or a paid judge, whatever the developer's shell has set."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = ("ANTHROPIC_API_KEY", "HARNESS_STORE", "HARNESS_REPORT_DIR", "HARNESS_DEVICE", "HARNESS_INCONCLUSIVE")
    names += ("HARNESS_BASELINE_ALIAS", "HARNESS_SIGNING_KEY", "HARNESS_SIGNING_KEY_FILE")
    names += ("HARNESS_JUDGE", "HARNESS_JUDGE_MODEL", "HARNESS_JUDGE_BUDGET")
    for name in names:
        monkeypatch.delenv(name, raising=False)
