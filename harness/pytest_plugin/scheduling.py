"""pytest-xdist: one worker a recipe."""

from __future__ import annotations

import re
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from harness.pytest_plugin.state import STATE

__all__ = ["by_recipe"]


def by_recipe(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """`--dist load`, but tests with the same recipe in their id stay together."""
    names = set(config.stash[STATE].session.recipe_names())

    class ByRecipe(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            parameters = re.search(r"\[(.*)\]$", nodeid)
            for part in parameters[1].split("-") if parameters else ():
                if part in names:
                    return part
            return nodeid

    return ByRecipe(config, log)
