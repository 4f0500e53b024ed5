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
    """In a worker: leave the cores to the others where it waits, unless OMP_NUM_THREADS or OMP_WAIT_POLICY says how.

    torch starts a thread for each core in every worker, and those wait for each other by spinning: with two workers on
    two cores a training step took four to five times as long. Asleep they cost nothing, and the last worker has all
    cores. A process that has imported torch already no longer reads the variable: it takes its share of the threads.
    """
    if {"OMP_NUM_THREADS", "OMP_WAIT_POLICY"} & os.environ.keys():
        return
    if "torch" in sys.modules:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        sys.modules["torch"].set_num_threads(max(1, cores // workers))
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
