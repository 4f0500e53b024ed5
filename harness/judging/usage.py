"""What judging used: tokens of each call, and the sums that a run's report shows."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.records import JudgingSummary

__all__ = ["Meter", "Usage", "joined_judging", "read_usage"]

_COUNTS = (
    *("graded", "from_cache", "unscored", "calls", "unknown_calls"),
    *("input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens"),
)
_LARGEST = 2**40  # tokens; beyond it a count is no count


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls. input_tokens: without those of the prompt cache."""

    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.output_tokens + other.output_tokens,
        )


def read_usage(reply: object) -> Usage | None:
    """The usage that a reply of the Messages API states, or None where it does not or it cannot be true."""
    stated = reply.get("usage") if isinstance(reply, Mapping) else None
    if not isinstance(stated, Mapping):
        return None
    counts: list[Any] = [
        stated.get("input_tokens"),
        stated.get("cache_creation_input_tokens") or 0,
        stated.get("cache_read_input_tokens") or 0,
        stated.get("output_tokens"),
    ]
    if any(isinstance(c, bool) or not isinstance(c, int) or not 0 <= c <= _LARGEST for c in counts):
        return None
    return Usage(*counts)


@dataclass(eq=False)
class Meter:
    """Counts of one recipe's judging; safe for several threads.

    judges: their names, in the order of their first use.
    """

    judges: dict[str, None] = field(default_factory=dict)
    graded: int = 0
    from_cache: int = 0
    unscored: int = 0
    calls: int = 0
    unknown_calls: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    unpriced: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, judge: str, *, graded: int = 0, from_cache: int = 0, unscored: int = 0) -> None:
        """Answers that a judge was to grade, by how that ended."""
        with self._lock:
            self.judges[judge] = None
            self.graded += graded
            self.from_cache += from_cache
            self.unscored += unscored

    def call(self, usage: Usage | None, cost: float | None) -> None:
        """One call that was sent. usage: None where it is not known what it used; cost: None without a price."""
        with self._lock:
            self.calls += 1
            self.unknown_calls += usage is None
            self.usage += usage or Usage()
            self.cost_usd += cost or 0.0
            self.unpriced |= cost is None

    def summary(self, budget_usd: float | None, prices_as_of: str) -> JudgingSummary | None:
        """What the report shows; None where nothing was judged."""
        with self._lock:
            if not self.judges:
                return None
            counts = {name: getattr(self.usage if name.endswith("_tokens") else self, name) for name in _COUNTS}
            return JudgingSummary(
                judges=tuple(self.judges),
                **counts,
                cost_usd=None if self.unpriced else self.cost_usd,
                budget_usd=budget_usd,
                prices_as_of=prices_as_of,
            )


def joined_judging(one: JudgingSummary | None, other: JudgingSummary | None) -> JudgingSummary | None:
    """What two processes took together for one recipe."""
    if one is None or other is None:
        return one or other
    known = one.cost_usd is not None and other.cost_usd is not None
    return replace(
        one,
        judges=tuple(dict.fromkeys((*one.judges, *other.judges))),
        **{name: getattr(one, name) + getattr(other, name) for name in _COUNTS},
        cost_usd=(one.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
    )
