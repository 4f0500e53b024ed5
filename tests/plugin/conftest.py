"""In-process runs of pytest forget the modules that they imported; numpy and torch load once a process, and the
judge's SDK takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

import harness.engine.capability
import harness.engine.training
import harness.statistics.scored  # noqa: F401


@pytest.fixture(scope="session")
def trained_store(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has the adapter of the project's recipe, and nothing else. To be copied, not to be used."""
    from harness.pipeline import Places, Session

    root = tiny.save_project(tmp_path_factory.mktemp("trained"), tiny_model)
    session = Session(Places.below(root), environ={})
    session.open("animals").adapter()
    session.close()
    return root / ".harness"
