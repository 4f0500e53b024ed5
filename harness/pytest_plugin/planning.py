"""`--harness-plan FILE`: tests run without a model, their gates are recorded and written to FILE as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import AdapterMissing
from harness.pytest_plugin.selection import recipe_of

if TYPE_CHECKING:
    from harness.pytest_plugin.state import State

__all__ = ["AbsentAdapter", "Planning"]


class AbsentAdapter:
    """What the fixture `adapter` gives in planning where the store has none; a test that looks at it cannot go on."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AdapterMissing(f"the test reads adapter.{name}, and there is no adapter before the first run")


class Planning:
    """The hooks of planning; registered only for it."""

    def __init__(self, state: State, file: Path) -> None:
        self._state = state
        self._file = file
        self._problems: list[str] = []
        self._skipped: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """A test without a gate may do anything, and says nothing here."""
        items[:] = [i for i in items if recipe_of(i) is not None and "gate" in getattr(i, "fixturenames", ())]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._problems.append(_said(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._problems.append(_said(report))
        elif report.skipped:
            self._skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        session = self._state.session
        plan = session.plan() if session.planning else []  # type: ignore[attr-defined]
        document = {"recipes": plan, "skipped": self._skipped, "problems": self._problems}
        self._file.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _said(report: pytest.CollectReport | pytest.TestReport) -> str:
    """The test or file, and the line that says what is wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash is not None else report.longreprtext).splitlines()
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    text = next(filter(None, [*errors, *(line.strip() for line in lines)]), "failed")
    return text if text.startswith(report.nodeid) else f"{report.nodeid}: {text}"
