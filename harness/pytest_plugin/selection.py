"""Which recipes a test runs with, and in which order."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from harness.errors import HarnessError
from harness.pytest_plugin.state import STATE

__all__ = ["RECIPE_PROPERTY", "arrange", "parametrize", "recipe_of"]

RECIPE_PROPERTY = "harness_recipe"
"""Name of the user property by which a report, also one from another process, tells its test's recipe."""


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Gives the session fixture `recipe` the recipes of the test's mark, or all there are."""
    if "recipe" not in metafunc.fixturenames:
        return
    state = metafunc.config.stash[STATE]
    mark = metafunc.definition.get_closest_marker("recipes")
    try:
        names = state.session.recipe_names() if mark is None else mark.args
        if not names:
            raise HarnessError(
                "pytest.mark.recipes needs at least one recipe name"
                if mark is not None
                else f"there is no recipe in {state.places.recipes}"
            )
        for name in names:
            state.load(name)
    except HarnessError as error:
        # A CollectError is shown as its message alone, where other errors bring a traceback.
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None
    metafunc.parametrize("recipe", names, indirect=True, scope="session")


def recipe_of(item: pytest.Item) -> str | None:
    """The recipe that the test was parametrised with."""
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("recipe") if callspec is not None else None
    return name if isinstance(name, str) and "recipe" in getattr(item, "fixturenames", ()) else None


def arrange(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect recipes that were not asked for, and bring each recipe's tests together.

    pytest makes a parametrised session fixture anew when its parameter changes, so tests in file order would
    train a recipe several times.
    """
    state = config.stash[STATE]
    wanted = config.getoption("harness_recipe")
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        name = recipe_of(item)
        if name is None:
            kept.append(item)
            continue
        item.user_properties.append((RECIPE_PROPERTY, name))
        mark = item.get_closest_marker("recipes")
        needs_name = mark is not None and bool(mark.kwargs.get("only_when_named", False))
        named = any(fnmatchcase(name, pattern) for pattern in wanted)
        exactly = name in wanted
        (kept if (exactly if needs_name else named or not wanted) else dropped).append(item)
    if dropped:
        with state.choosing_recipes():
            config.hook.pytest_deselected(items=dropped)
    order: dict[str | None, int] = {}
    for item in kept:
        order.setdefault(recipe_of(item), len(order))
    items[:] = sorted(kept, key=lambda item: order[recipe_of(item)])
