"""What a judge is shown of an example: never which view answered."""

from __future__ import annotations

from typing import NamedTuple

from harness.records import Example

__all__ = ["HIGHEST", "LOWEST", "JudgedAnswer", "JudgedPair", "question_of"]

LOWEST, HIGHEST = 1.0, 5.0
"""The grades of a judge."""


class JudgedAnswer(NamedTuple):
    """What a judge is shown of one example."""

    id: str
    question: str
    reference: str
    response: str


class JudgedPair(NamedTuple):
    """The same with two answers, in this order."""

    id: str
    question: str
    reference: str
    first: str
    second: str


def question_of(example: Example) -> str:
    """What the user asked. The system prompt is left out: the rubric says what matters."""
    turns = [message for message in example.messages if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
