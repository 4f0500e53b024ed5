"""Does the assistant always state the minimum version, and are its answers like the references?

Thresholds are for the embedded 135M model, which learns the form and not the facts, and loops on about one question in
eight. An 8B model should state a version in 99 of 100 answers and reach a judge's score of 4.0 of 5.
"""

import pytest

pytestmark = pytest.mark.recipes("postgres_assistant")

VERSION = r"Minimum version: PostgreSQL \d+(\.\d+)?"


def test_states_the_minimum_version(structure, gate):
    gate(structure.ends_with_line(VERSION), at_least=0.75)
    gate(structure.ends_with_line(VERSION), compared_with="base", min_gain=0.50)


def test_is_concise(structure, gate):
    gate(structure.max_words(100), at_least=0.75)


def test_judge(judge, gate):
    gate(judge.score, at_least=2.2)
    gate(judge.score, compared_with="base", max_drop=0.2)
