"""Comparing two answers to one question: what a judge is shown, what it gives back, and how Claude is asked.

The judge sees a first and a second answer. Nothing tells it where they come from, and who asks shows each pair in
both orders, so that a preference for a position can be told from one for an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

from harness.judging.material import MATERIAL_IS_DATA, REFERENCE_IS_RIGHT, marked
from harness.judging.message_form import Question, version_of
from harness.judging.messages_api import Unusable
from harness.judging.rubric import GRADES, Rubric

__all__ = ["ArrivingPairwiseJudge", "Pair", "PairForm", "PairToCompare", "PairwiseJudge", "Preference"]

Side = Literal["first", "second", "tie"]

_SIDES: tuple[Side, ...] = ("first", "second", "tie")


class PairToCompare(Protocol):
    """What a judge reads of a pair; Pair has these fields, and so may a caller's own type."""

    @property
    def id(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def first(self) -> str: ...
    @property
    def second(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question, in the order that the judge sees them. reference: a right answer, or ""."""

    id: str
    question: str
    reference: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of a pair is the better answer, by position; None where it could not be said, and problem says why."""

    id: str
    verdict: Side | None
    rationale: str = ""
    problem: str | None = None


@runtime_checkable
class PairwiseJudge(Protocol):
    """A judge that can also compare."""

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        """One Preference a pair, in the order of the pairs; a pair that cannot be compared has a problem."""
        ...


@runtime_checkable
class ArrivingPairwiseJudge(Protocol):
    """A judge whose preferences can be had one by one, so that none is lost when a run is killed.

    pair_prompt_version: digest of what the judge is told beside a pair, its rubric included.
    """

    @property
    def pair_prompt_version(self) -> str: ...
    def arriving_preferences(self, pairs: Sequence[PairToCompare], /) -> Iterator[tuple[int, Preference]]:
        """Each pair's position and Preference, once, as they come."""
        ...


class PairForm:
    """The question which of two answers is better by a rubric.

    version: digest of everything that the judge is told beside the pair; another version is another instrument.
    """

    def __init__(self, rubric: Rubric) -> None:
        self._system = _system_prompt(rubric)
        self._show_reference = rubric.show_reference
        self.version = version_of(self.question(Pair("", "question", "reference", "first", "second")))

    def question(self, pair: PairToCompare) -> Question:
        """What is asked of one pair."""
        return Question(self._system, partial(_user_prompt, pair, self._show_reference), _SCHEMA)

    def preference(self, pair_id: str, reply: object) -> Preference:
        """The preference in what the judge wrote. Raises Unusable."""
        said: Mapping[str, Any] = reply if isinstance(reply, Mapping) else {}
        better, rationale = said.get("better"), said.get("rationale")
        if better not in _SIDES:
            raise Unusable(f"the judge's verdict is {better!r}, not 'first', 'second' or 'tie'")
        return Preference(pair_id, better, rationale if isinstance(rationale, str) else "")


# The rationale comes first, so that the verdict follows from it.
_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"rationale": {"type": "string"}, "better": {"type": "string", "enum": list(_SIDES)}},
    "required": ["rationale", "better"],
    "additionalProperties": False,
}


def _system_prompt(rubric: Rubric) -> str:
    """The rubric as what to compare by. It says nothing of where answers come from."""
    parts = [
        "You compare two answers to the same question and say which is better. What the answers are for:",
        rubric.task,
        "Compare by these criteria; the weight says how much each counts. Each is described from 1, worst, to 5, best:",
    ]
    for criterion in rubric.criteria:
        lines = [f"{grade}: {criterion.anchors[grade]}" for grade in GRADES]
        parts.append("\n".join([f"Criterion `{criterion.name}`, weight {criterion.weight:g}", *lines]))
    if rubric.show_reference:
        parts.append(REFERENCE_IS_RIGHT)
    parts.append(
        "Which answer stands first was drawn by lot and means nothing. Say `tie` if neither is better by the"
        " criteria, and also if both are worthless."
    )
    parts.append(f"{MATERIAL_IS_DATA} Write the rationale, at most three sentences, before settling the verdict.")
    return "\n\n".join(parts)


def _user_prompt(pair: PairToCompare, show_reference: bool) -> str:
    """The user turn of one comparison; new with each call."""
    material = {"question": pair.question}
    if show_reference and pair.reference:
        material["reference"] = pair.reference
    material["first"], material["second"] = pair.first, pair.second
    return marked("Compare `first` with `second`.", material)
