"""What a gate is given: a name, and scores for any view that are computed when they are first asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.records import Example, Scores

__all__ = ["Measure", "parameter"]

_LONGEST_PARAMETER = 60


@dataclass(frozen=True, eq=False, repr=False)
class Measure:
    """One measured quantity, not yet tied to a view.

    name: dotted, as reports and verdicts show it, e.g. "classification.f1[payroll]".
    compute: view -> Scores. It is called at most once a view; an exception is not remembered.
    bounds: the lowest and highest value that an example can have.
    some: (view, ids) -> Scores of these examples alone, without computing the others, and examples: all there are.
        With them a gate can stop early; the value of an example must not depend on which others are asked with it.
    """

    name: str
    compute: Callable[[str], Scores]
    bounds: tuple[float, float] = (0.0, 1.0)
    some: Callable[[str, Sequence[str]], Scores] | None = None
    examples: tuple[Example, ...] = ()
    _computed: dict[str, Scores] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def scores(self, view: str) -> Scores:
        """The scores of every example on `view`, computed on first use."""
        with self._lock:
            if view not in self._computed:
                self._computed[view] = self.compute(view)
            return self._computed[view]

    @property
    def computed_views(self) -> tuple[str, ...]:
        """The views whose scores are there already."""
        return tuple(self._computed)

    def __repr__(self) -> str:
        low, high = self.bounds
        state = f"computed for {', '.join(self._computed)}" if self._computed else "not computed yet"
        return f"<{type(self).__name__} {self.name}, {low:g} to {high:g}, {state}>"


def parameter(text: str) -> str:
    """`text` as it stands between the brackets of a measure's name: one line, short, still distinct."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if len(line) <= _LONGEST_PARAMETER:
        return line
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{line[: _LONGEST_PARAMETER - 10]}… {digest}"
