"""pytest-xdist: one worker a recipe, and its share of the cores."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from harness.pytest_plugin.selection import recipe_of
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


def share_cores(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """In a worker that has collected recipes: start so many threads that the workers at work have one a core together,
    unless OMP_NUM_THREADS says how many.

    torch starts one a core in every worker, and those wait for each other by spinning: with two workers on two cores a
    training step took four to five times as long. Of more workers than recipes the others have nothing to do.
    """
    recipes = [recipe_of(item) for item in items]
    if "OMP_NUM_THREADS" in os.environ or not any(recipes):
        return
    given = config.workerinput  # type: ignore[attr-defined]
    workers = int(given["workercount"])
    if given["harness_by_recipe"]:
        alone = recipes.count(None)  # tests without a recipe are handed out one by one
        workers = min(workers, len(set(recipes) - {None}) + alone)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # it read the variable when it was imported
        sys.modules["torch"].set_num_threads(threads)
