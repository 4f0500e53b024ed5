"""A judge that remembers: what it graded once, by content, is not asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.judging import Answer, ArrivingJudge, Grade, Judge, Meter
from harness.judging.protocol import HIGHEST_GRADE, LOWEST_GRADE
from harness.store import Store, content_key

__all__ = ["KnownGrades", "NotStored", "StoredGrades"]


class NotStored(HarnessError):
    """What a run would have to compute, where nothing may be computed."""


class StoredGrades:
    """Grades by `judge`, kept in the store under judge, rubric, prompt version, question, reference and response.

    Each grade is kept as it arrives. An answer that the judge could not grade is not remembered, so the next run
    asks again. meter: counts what was graded and what was known.
    """

    def __init__(
        self, judge: Judge, rubric_digest: str, prompt_version: str, store: Store, meter: Meter | None = None
    ) -> None:
        self.name = judge.name
        self.criteria = judge.criteria
        self._judge = judge
        self._identity = {"judge": judge.name, "rubric": rubric_digest, "prompt": prompt_version}
        self._grades = store.grades
        self._meter = meter or Meter()

    @property
    def note(self) -> str:
        """The judge's own, which may change as it grades."""
        return self._judge.note

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order."""
        keys = [self._key(item) for item in items]
        known = self._stored(keys)
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        self._meter.count(self.name, from_cache=len(known))
        asked = list(new)
        for position, grade in self._arriving(list(new.values())):
            value = _plain(grade)
            if _is_grade(value):
                self._grades.put(asked[position], value)
            known[asked[position]] = value
            self._meter.count(self.name, graded=int(_is_grade(value)), unscored=int(not _is_grade(value)))
        return [Grade(id=item.id, **known[key]) for key, item in zip(keys, items, strict=True)]

    def known(self, items: Sequence[Answer], /) -> list[Grade] | None:
        """The grades that are in the store, or None where one is not; no judge is asked."""
        keys = [self._key(item) for item in items]
        found = self._stored(keys)
        if len(found) < len(set(keys)):
            return None
        return [Grade(id=item.id, **found[key]) for key, item in zip(keys, items, strict=True)]

    def _arriving(self, items: Sequence[Answer]) -> Iterator[tuple[int, Grade]]:
        if not items:
            return
        if isinstance(self._judge, ArrivingJudge):
            yield from self._judge.arriving(items)
        else:
            yield from enumerate(self._judge.grade(items))

    def _stored(self, keys: Sequence[str]) -> dict[str, Any]:
        return {key: value for key, value in self._grades.get(keys).items() if _is_grade(value)}

    def _key(self, item: Answer) -> str:
        asked = {"question": item.question, "reference": item.reference, "response": item.response}
        return content_key({**self._identity, **asked})


class KnownGrades:
    """A judge that gives what it gave before. Raises NotStored for an answer that it was not shown before."""

    def __init__(self, grades: StoredGrades) -> None:
        self.name, self.criteria = grades.name, grades.criteria
        self._grades = grades

    @property
    def note(self) -> str:
        return self._grades.note

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        found = self._grades.known(items)
        if found is None:
            raise NotStored("the judge has not graded these answers yet")
        return found


def _plain(grade: Grade) -> dict[str, Any]:
    return {
        "score": grade.score,
        "criteria": dict(grade.criteria),
        "rationale": grade.rationale,
        "problem": grade.problem,
    }


def _is_grade(value: Mapping[str, Any]) -> bool:
    """Whether it is a score on the scale; nothing else is remembered as one."""
    scores = [value["score"], *value["criteria"].values()]
    return value["problem"] is None and all(
        isinstance(score, int | float) and LOWEST_GRADE <= score <= HIGHEST_GRADE for score in scores
    )
