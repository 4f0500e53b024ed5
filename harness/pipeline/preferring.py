"""A judge that remembers which of two answers it preferred: by content and order, as grades are remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.judging import ArrivingPairwiseJudge, Meter, PairToCompare, PairwiseJudge, Preference
from harness.store import Store, content_key

__all__ = ["StoredPreferences"]


class StoredPreferences:
    """Preferences of `judge`, kept under its name, rubric, prompt version, question, reference and both answers.

    Each preference is kept as it arrives. A pair that the judge could not compare is not remembered, so the next run
    asks again. meter: counts what was compared and what was known.
    """

    def __init__(
        self,
        judge: PairwiseJudge,
        name: str,
        rubric_digest: str,
        prompt_version: str,
        store: Store,
        meter: Meter | None = None,
    ) -> None:
        self._judge = judge
        self._name = name
        self._identity = {"judge": name, "rubric": rubric_digest, "pair_prompt": prompt_version}
        self._kept = store.grades
        self._meter = meter or Meter()

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        """One Preference a pair, in their order."""
        keys = [self._key(pair) for pair in pairs]
        known: dict[str, Any] = self._kept.get(keys)
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        self._meter.count(self._name, from_cache=len(known))
        asked = list(new)
        for position, found in self._arriving(list(new.values())):
            key = asked[position]
            known[key] = {"verdict": found.verdict, "rationale": found.rationale, "problem": found.problem}
            compared = found.verdict is not None and found.problem is None
            if compared:
                self._kept.put(key, known[key])
            self._meter.count(self._name, graded=int(compared), unscored=int(not compared))
        return [Preference(id=pair.id, **known[key]) for key, pair in zip(keys, pairs, strict=True)]

    def known(self, pairs: Sequence[PairToCompare], /) -> list[Preference] | None:
        """The preferences that are in the store, or None where one is not; no judge is asked."""
        keys = [self._key(pair) for pair in pairs]
        found = self._kept.get(keys)
        if len(found) < len(set(keys)):
            return None
        return [Preference(id=pair.id, **found[key]) for key, pair in zip(keys, pairs, strict=True)]

    def _arriving(self, pairs: Sequence[PairToCompare]) -> Iterator[tuple[int, Preference]]:
        if not pairs:
            return
        if isinstance(self._judge, ArrivingPairwiseJudge):
            yield from self._judge.arriving_preferences(pairs)
        else:
            yield from enumerate(self._judge.prefer(pairs))

    def _key(self, pair: PairToCompare) -> str:
        asked = {
            "question": pair.question,
            "reference": pair.reference,
            "first": pair.first,
            "second": pair.second,
        }
        return content_key({**self._identity, **asked})
