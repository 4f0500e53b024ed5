"""The pytest plugin: recipes as fixtures, gates as tests.

Importing it loads nothing but pytest and the standard library; recipes are read once a test asks for one, and
torch once a model is needed that the store does not already know the answers of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, TrainingInterrupted
from harness.pytest_plugin.fixtures import (
    adapter,
    capability,
    classification,
    gate,
    generation,
    judge,
    recipe,
    recipe_run,
    structure,
)
from harness.pytest_plugin.gating import Gate
from harness.pytest_plugin.options import add_options
from harness.pytest_plugin.selection import RECIPE_PROPERTY, arrange, parametrize
from harness.pytest_plugin.state import STATE, State

if TYPE_CHECKING:
    from xdist.scheduler.loadscope import LoadScopeScheduling

__all__ = [
    "adapter",
    "capability",
    "classification",
    "gate",
    "generation",
    "judge",
    "recipe",
    "recipe_run",
    "structure",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "recipes(*names, only_when_named=False): the recipes that the tests run with; with only_when_named, "
        "only if --harness-recipe names them.",
    )
    # Promotions are signed by `harness promote`, never by a test run: no test shall read the key or show it.
    os.environ.pop("HARNESS_SIGNING_KEY", None)
    state = config.stash[STATE] = State(config)
    state.check_options()
    if state.planning:
        from harness.pytest_plugin.planning import Planning

        config.pluginmanager.register(Planning(state, Path(config.getoption("harness_plan"))), "harness-planning")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    arrange(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.stash[STATE].worker:
        from harness.pytest_plugin.scheduling import share_cores

        share_cores(session.config, session.items)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.config.stash[STATE].collected(item)


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[STATE].deselected(item)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """A test's gates are decided while it runs; it fails at its end if any did not pass."""
    state = pyfuncitem.config.stash[STATE]
    try:
        result = yield
    except TrainingInterrupted as error:
        state.interrupted(error)
    except HarnessError as error:
        state.problem(pyfuncitem, str(error))
        pytest.fail(str(error), pytrace=False)
    used = pyfuncitem.funcargs.get("gate")
    if isinstance(used, Gate):
        used.close()
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """On the controller of a distributed run this sees every worker's tests."""
    recipes = [str(value) for name, value in report.user_properties if name == RECIPE_PROPERTY]
    if recipes and State.current is not None:
        State.current.reported(report, recipes[0])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[STATE].finish(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    config.stash[STATE].summarize(terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    state = config.stash.get(STATE, None)
    if state is not None:
        state.close()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist ended; what it measured comes as JSON text."""
    node.config.stash[STATE].worker_ended(node)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is about to start; it does not know how tests are distributed."""
    node.workerinput["harness_by_recipe"] = _by_recipe(node.config)


def _by_recipe(config: pytest.Config) -> bool:
    return config.getoption("dist") == "load" and config.stash[STATE].places.recipes.is_dir()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """All tests of a recipe go to one worker, so that it is trained and loaded once."""
    if not _by_recipe(config):
        return None
    from harness.pytest_plugin.scheduling import by_recipe

    return by_recipe(config, log)


def pytest_report_header(config: pytest.Config) -> str | None:
    wanted = config.getoption("harness_recipe")
    return f"harness: recipes {', '.join(wanted)}" if wanted else None
