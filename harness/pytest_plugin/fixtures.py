"""The fixtures that a suite uses. All but `gate` live as long as their recipe is being tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import pytest

from harness.pytest_plugin.gating import Gate
from harness.pytest_plugin.options import inconclusive_of
from harness.pytest_plugin.planning import AbsentAdapter
from harness.pytest_plugin.selection import recipe_of
from harness.pytest_plugin.state import STATE

if TYPE_CHECKING:
    from harness.measures import CapabilityTask, Classification, Generation, Judged, Structure
    from harness.pipeline import RecipeRun
    from harness.recipes import Recipe
    from harness.store import Adapter


@pytest.fixture(scope="session")
def recipe(request: pytest.FixtureRequest) -> Iterator[Recipe]:
    """The recipe that the test runs with; chosen by `pytest.mark.recipes(...)`."""
    state = request.config.stash[STATE]
    with state.reporting(request.param):
        run = state.session.open(request.param)
    items = request.session.items
    if any(recipe_of(item) == request.param and "judge" in getattr(item, "fixturenames", ()) for item in items):
        run.before_training = run.require_judge
    yield run.recipe
    run.close()


@pytest.fixture(scope="session")
def recipe_run(recipe: Recipe, request: pytest.FixtureRequest) -> RecipeRun:
    """The recipe's data, adapter and answers; for suites that need more than the measures."""
    return request.config.stash[STATE].session.open(recipe.name)


@pytest.fixture(scope="session")
def adapter(recipe_run: RecipeRun, request: pytest.FixtureRequest) -> Adapter:
    """The trained adapter: folder, fingerprint, digest, manifest. Trained now if the store does not have it."""
    state = request.config.stash[STATE]
    with state.reporting(recipe_run.recipe.name):
        if state.planning:
            return cast("Adapter", recipe_run.adapter_or_none() or AbsentAdapter())  # type: ignore[attr-defined]
        return recipe_run.adapter()


@pytest.fixture(scope="session")
def classification(adapter: Adapter, recipe_run: RecipeRun, request: pytest.FixtureRequest) -> Classification:
    """Accuracy, F1, precision and recall, whole and by label."""
    with request.config.stash[STATE].reporting(recipe_run.recipe.name):
        return recipe_run.classification()


@pytest.fixture(scope="session")
def generation(adapter: Adapter, recipe_run: RecipeRun) -> Generation:
    """Generated answers against the expected ones: exact match, ROUGE, chrF, BLEU, fields."""
    return recipe_run.generation()


@pytest.fixture(scope="session")
def structure(adapter: Adapter, recipe_run: RecipeRun) -> Structure:
    """Rules on generated answers: regex, JSON Schema, Markdown sections, length, last line."""
    return recipe_run.structure()


@pytest.fixture(scope="session")
def judge(adapter: Adapter, recipe_run: RecipeRun, request: pytest.FixtureRequest) -> Judged:
    """A judge's grades of the answers, 1 to 5, by the rubric named like the recipe; win rates; its robustness."""
    with request.config.stash[STATE].reporting(recipe_run.recipe.name):
        return recipe_run.judge()


@pytest.fixture(scope="session")
def capability(adapter: Adapter, recipe_run: RecipeRun) -> Callable[..., list[CapabilityTask]]:
    """`capability("general_knowledge", ...)`: lm-eval tasks on the adapter and on its base."""

    def tasks(*names: str) -> list[CapabilityTask]:
        return [recipe_run.capability(name) for name in names]

    return tasks


@pytest.fixture
def gate(recipe: Recipe, request: pytest.FixtureRequest) -> Gate:
    """Decides a rule on a measure; see Gate."""
    warn = request.node.warn if inconclusive_of(request.config) == "warn" else None
    return Gate(request.config.stash[STATE].session, recipe.name, request.node.nodeid, warn=warn)
