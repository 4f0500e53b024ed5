"""The money of one judge's calls: reserved before each, counted after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.judging.budget import Budget
from harness.judging.prices import Price
from harness.judging.usage import Meter, Usage

__all__ = ["Account"]

# The API adds instructions of its own to a prompt with a schema.
_ADDED_TOKENS = 1_000
_BYTES_PER_TOKEN = 3.5  # of English and JSON, for estimates only
_USUAL_OUTPUT = 250  # tokens of three sentences and the grades, for estimates only


class Account:
    """price: of the judge's model, or None where it is not known. batch: whether its calls go in batches.

    budget: of the run. meter: of the recipe.
    """

    def __init__(
        self,
        price: Price | None = None,
        budget: Budget | None = None,
        meter: Meter | None = None,
        *,
        batch: bool = False,
    ) -> None:
        self._price = price
        self._budget = budget or Budget()
        self._meter = meter or Meter()
        self._batch = batch

    def most(self, params: Mapping[str, Any]) -> float:
        """USD that a call with these parameters can cost at most: no token is shorter than a byte."""
        if self._price is None:
            return 0.0
        tokens = len(json.dumps(params, ensure_ascii=False).encode("utf-8", "surrogatepass")) + _ADDED_TOKENS
        return self._price.most(tokens, params["max_tokens"], batch=self._batch)

    def asks(self, judge: str) -> None:
        """This judge is about to be asked."""
        self._meter.count(judge)

    def reserve(self, most: float, ends: float) -> bool:
        """As Budget.reserve."""
        return self._budget.reserve(most, ends=ends)

    def settle(self, most: float, usage: Usage | None, *, billed: bool = True, sent: bool = True) -> None:
        """A call ended. usage: None where it did not say what it used, which then counts as `most` if it was billed."""
        actual = self._cost(usage, most if billed else 0.0)
        self._budget.settle(most, actual or 0.0)
        if sent:
            self._meter.call(usage if usage is not None or billed else Usage(), actual)

    def add(self, usage: Usage) -> None:
        """A call that an earlier run made, and that nothing was reserved for in this one."""
        actual = self._cost(usage, 0.0)
        self._budget.add(actual or 0.0)
        self._meter.call(usage, actual)

    def reached(self) -> str:
        """Why no further call is made."""
        return self._budget.reason()

    def estimate(self, params: list[Mapping[str, Any]]) -> str:
        """About how many tokens these calls take, and what they cost: for people, before the first call."""
        size = sum(len(json.dumps(one, ensure_ascii=False)) for one in params)
        tokens = Usage(input_tokens=round(size / _BYTES_PER_TOKEN), output_tokens=_USUAL_OUTPUT * len(params))
        text = f"about {_thousands(tokens.input_tokens)} tokens in and {_thousands(tokens.output_tokens)} out"
        if self._price is None:
            return f"{text}, at a price that is not known"
        text += f", ${self._price.cost(tokens, batch=self._batch):,.2f}"
        if self._budget.limit is not None:
            text += f" (budget ${self._budget.limit:,.2f}, spent ${self._budget.spent:,.2f})"
        return text

    def _cost(self, usage: Usage | None, otherwise: float) -> float | None:
        if usage is None:
            return otherwise if self._price is not None or otherwise == 0.0 else None
        if self._price is None:
            return None
        return self._price.cost(usage, batch=self._batch)


def _thousands(tokens: int) -> str:
    return f"{tokens:,}" if tokens < 1_000 else f"{round(tokens, -3):,}"
