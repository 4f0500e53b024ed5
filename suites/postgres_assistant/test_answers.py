"""Does the assistant always state the minimum version, and are its answers like the references?

Thresholds are for the embedded 135M model, which learns the form and not the facts; an 8B model should reach a
judge's score of 4.0 of 5 and name the right version in 8 of 10 answers.
"""

import pytest

pytestmark = pytest.mark.recipes("postgres_assistant")

VERSION = r"Minimum version: PostgreSQL \d+(\.\d+)?"


def test_states_the_minimum_version(structure, gate):
    gate(structure.ends_with_line(VERSION), at_least=0.90)
    gate(structure.ends_with_line(VERSION), compared_with="prompted_base", min_gain=0.10)


def test_is_concise(structure, gate):
    gate(structure.max_words(100), at_least=0.90)


def test_judge(judge, gate):
    gate(judge.score, at_least=2.5)
    gate(judge.score, compared_with="base", max_drop=0.2)
