"""A judge that remembers which of two answers it preferred: by content and order, as grades are remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judging import PairToCompare, PairwiseJudge, Preference
from harness.store import Store, content_key

__all__ = ["StoredPreferences"]


class StoredPreferences:
    """Preferences of `judge`, kept in the store under `identity`, question, reference, first and second answer.

    identity: plain values that say which judge it is, by which rubric and code. A pair that the judge could not compare
    is not remembered, so the next run asks again.
    """

    def __init__(self, judge: PairwiseJudge, identity: Mapping[str, str], store: Store) -> None:
        self._judge = judge
        self._identity = dict(identity)
        self._store = store

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        """One Preference a pair, in their order."""
        keys = [self._key(pair) for pair in pairs]
        known = {key: self._kept(key) for key in keys}
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if known[key] is None}
        for key, found in zip(new, self._judge.prefer(list(new.values())) if new else [], strict=True):
            known[key] = {"verdict": found.verdict, "rationale": found.rationale, "problem": found.problem}
            if found.problem is None:
                self._store.keep_result("preferences", key, known[key])
        return [Preference(id=pair.id, **(known[key] or {})) for key, pair in zip(keys, pairs, strict=True)]

    def known(self, pairs: Sequence[PairToCompare], /) -> list[Preference] | None:
        """The preferences that are in the store, or None where one is not; no judge is asked."""
        found = [self._kept(self._key(pair)) for pair in pairs]
        if any(value is None for value in found):
            return None
        return [Preference(id=pair.id, **(value or {})) for pair, value in zip(pairs, found, strict=True)]

    def _kept(self, key: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self._store.result("preferences", key)
        return value

    def _key(self, pair: PairToCompare) -> str:
        asked = {
            "question": pair.question,
            "reference": pair.reference,
            "first": pair.first,
            "second": pair.second,
        }
        return content_key({**self._identity, **asked})
