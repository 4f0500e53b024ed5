"""Composes the rooms: recipe, data, engine, measures, gates, store. No pytest here.

What a name needs is loaded when it is first asked for: looking at earlier runs takes none of what makes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.pipeline.evaluation import RecipeRun
    from harness.pipeline.planning import PlanningSession
    from harness.pipeline.session import Places, Session

__all__ = ["Places", "PlanningSession", "RecipeRun", "Session"]

_MODULES = {"Places": "session", "PlanningSession": "planning", "RecipeRun": "evaluation", "Session": "session"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
