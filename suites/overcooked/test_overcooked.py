"""A recipe that must not pass: `pytest suites/ --harness-recipe overcooked` ends red, with forgetting to blame."""

import pytest

pytestmark = pytest.mark.recipes("overcooked", only_when_named=True)


def test_forgets_nothing(capability, gate):
    for task in capability("general_knowledge", "commonsense", "grammar"):
        gate(task.accuracy, compared_with="base", max_drop=0.10)
