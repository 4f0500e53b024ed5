"""A project whose base model is a few bytes: enough for everything that loads no model."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny project, with a base model that can be found and has a digest, and cannot be loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    return tiny.save_project(tmp_path / "project", model)
