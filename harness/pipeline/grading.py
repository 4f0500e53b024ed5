"""A judge that remembers: what it graded once, by content, is not asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.judging import Answer, Grade, Judge
from harness.store import Store, content_key

__all__ = ["StoredGrades"]


class StoredGrades:
    """Grades by `judge`, kept in the store under judge, rubric, code, question, reference and response.

    An answer that the judge could not grade is not remembered, so the next run asks again.
    """

    def __init__(self, judge: Judge, rubric_digest: str, code: str, store: Store) -> None:
        self.name = judge.name
        self.note = judge.note
        self.criteria = judge.criteria
        self.stand_in: bool = getattr(judge, "stand_in", False)
        self._judge = judge
        self._identity = {"judge": judge.name, "rubric": rubric_digest, "code": code}
        self._store = store

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order."""
        keys = [self._key(item) for item in items]
        known: dict[str, Any] = {key: self._store.result("grades", key) for key in keys}
        new = {key: item for key, item in zip(keys, items, strict=True) if known[key] is None}
        for key, grade in zip(new, self._judge.grade(list(new.values())), strict=True):
            value = {
                "score": grade.score,
                "criteria": dict(grade.criteria),
                "rationale": grade.rationale,
                "problem": grade.problem,
            }
            known[key] = value
            if grade.problem is None:
                self._store.keep_result("grades", key, value)
        return [Grade(id=item.id, **known[key]) for key, item in zip(keys, items, strict=True)]

    def known(self, items: Sequence[Answer], /) -> list[Grade] | None:
        """The grades that are in the store, or None where one is not; no judge is asked."""
        found: list[Any] = [self._store.result("grades", self._key(item)) for item in items]
        if any(value is None for value in found):
            return None
        return [Grade(id=item.id, **value) for item, value in zip(items, found, strict=True)]

    def _key(self, item: Answer) -> str:
        asked = {"question": item.question, "reference": item.reference, "response": item.response}
        return content_key({**self._identity, **asked})
