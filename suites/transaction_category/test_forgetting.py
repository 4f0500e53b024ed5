"""What did training cost? Thresholds: at most 10 points for the embedded 135M model; 5 points for an 8B model."""

import pytest

pytestmark = pytest.mark.recipes("transaction_category")


def test_forgets_nothing(capability, gate):
    for task in capability("general_knowledge", "commonsense", "grammar"):
        gate(task.accuracy, compared_with="base", max_drop=0.10)
