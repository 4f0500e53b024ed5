"""What a judge is shown, what it gives back, and what makes an object a judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = ["Answer", "ArrivingJudge", "Grade", "Judge", "JudgeItem"]

LOWEST_GRADE, HIGHEST_GRADE = 1, 5


class Answer(Protocol):
    """What a judge reads of an item; JudgeItem has these fields, and so may a caller's own type."""

    @property
    def id(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def response(self) -> str: ...


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One answer to grade. reference: a right answer, "" where there is none."""

    id: str
    question: str
    reference: str
    response: str


@dataclass(frozen=True, slots=True)
class Grade:
    """A judge's opinion of one item.

    score: 1 (worst) to 5 (best), or None where the item could not be graded; problem then says why.
    criteria: criterion -> grade 1 to 5; empty where the judge grades only the whole.
    """

    id: str
    score: float | None
    criteria: Mapping[str, float] = field(default_factory=dict)
    rationale: str = ""
    problem: str | None = None


class Judge(Protocol):
    """Grades answers.

    name: which judge it is. note: what every output must say beside its scores, or "".
    criteria: the criteria that its grades have.
    """

    @property
    def name(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def criteria(self) -> tuple[str, ...]: ...
    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in the order of the items; an item that cannot be graded has a problem."""
        ...


@runtime_checkable
class ArrivingJudge(Protocol):
    """A judge whose grades can be had one by one, so that none is lost when a run is killed.

    prompt_version: digest of what the judge is told beside an item, its rubric included.
    """

    @property
    def prompt_version(self) -> str: ...
    def arriving(self, items: Sequence[Answer], /) -> Iterator[tuple[int, Grade]]:
        """Each item's position and Grade, once, as they come."""
        ...
