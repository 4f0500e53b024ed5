"""Does the assistant always state the minimum version, and are its answers any good?

Thresholds are for the embedded 135M model, which learns the form and not the facts, and loops on one question in sixty.
An 8B model should state a version in 99 of 100 answers and reach a judge's score of 4.0 of 5.

Characters in common with the reference do not tell a right answer from a wrong one: these two gates say that the
adapter writes more like the references than its base, and no more. Whether answers are right is the judge's to say. The
embedded stand-in cannot (docs/calibration.md has its figures), so the judge is only asked where there is a real one.
"""

import pytest

pytestmark = pytest.mark.recipes("postgres_assistant")

VERSION = r"Minimum version: PostgreSQL \d+(\.\d+)?"


def test_states_the_minimum_version(structure, gate):
    gate(structure.ends_with_line(VERSION), at_least=0.75)
    gate(structure.ends_with_line(VERSION), compared_with="base", min_gain=0.50)


def test_is_concise(structure, gate):
    gate(structure.max_words(60), at_least=0.75)  # the longest reference has 52


def test_answers_like_the_references(generation, judge, gate):
    gate(generation.chrf, at_least=0.25)
    gate(generation.chrf, compared_with="base", min_gain=0.05)
    if not judge.stand_in:
        gate(judge.score, compared_with="base", max_drop=0.2)
