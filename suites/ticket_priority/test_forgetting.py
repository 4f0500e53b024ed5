"""What did training cost? At most 15 points of general knowledge here, 10 of the rest; 5 of each for an 8B model.

Two and a half epochs of one kind of answer cost the embedded 135M model 5 points of general knowledge (300 questions,
interval 1 to 10), which leaves no room for a margin of 10 on this many questions.
"""

import pytest

pytestmark = pytest.mark.recipes("ticket_priority")


def test_forgets_nothing(capability, gate):
    for task in capability("commonsense", "grammar"):
        gate(task.accuracy, compared_with="base", max_drop=0.10)


def test_keeps_general_knowledge(capability, gate):
    (task,) = capability("general_knowledge")
    gate(task.accuracy, compared_with="base", max_drop=0.15)
