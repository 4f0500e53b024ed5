"""pytest-xdist: one worker a recipe, and its share of the cores."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from harness.pytest_plugin.state import STATE

__all__ = ["by_recipe", "share_cores"]


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


def share_cores(workers: int) -> None:
    """In a worker: start so many threads that all workers together have one a core, unless OMP_NUM_THREADS says.

    torch starts one a core in every worker, and those wait for each other by spinning: with two workers on two cores a
    training step took four to five times as long.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # it read the variable when it was imported
        sys.modules["torch"].set_num_threads(threads)
