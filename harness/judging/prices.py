"""What a judge's calls cost: list prices from a dated file, and prices of the user's own."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from harness.judging.usage import Usage

__all__ = ["Price", "known_models", "price_of", "prices_as_of"]


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens; the factors are for tokens written to and read from the prompt cache.

    Newer models read their cache for less than the factor here, so a cost is never shown too low.
    """

    input: float
    output: float
    cache_write_factor: float = 1.25
    cache_read_factor: float = 0.1
    batch_factor: float = 0.5

    def cost(self, usage: Usage, *, batch: bool = False) -> float:
        """USD for the tokens of `usage`."""
        tokens_in = (
            usage.input_tokens
            + self.cache_write_factor * usage.cache_write_tokens
            + self.cache_read_factor * usage.cache_read_tokens
        )
        full = (tokens_in * self.input + usage.output_tokens * self.output) / 1e6
        return full * (self.batch_factor if batch else 1.0)

    def most(self, input_tokens: int, output_tokens: int, *, batch: bool = False) -> float:
        """USD for at most so many tokens, all of the input written to the cache."""
        return self.cost(Usage(cache_write_tokens=input_tokens, output_tokens=output_tokens), batch=batch)


def price_of(model: str, own: Mapping[str, Price]) -> Price | None:
    """The price of a model, `own` before the list; a dated snapshot costs what its model does. None if unknown."""
    undated = re.sub(r"-\d{8}\Z", "", model)
    for prices in (own, _listed()):
        for name in (model, undated):
            if name in prices:
                return prices[name]
    return None


def prices_as_of() -> str:
    """The date of the list, ISO 8601."""
    return str(_file()["as_of"])


def known_models() -> tuple[str, ...]:
    """The models in the list."""
    return tuple(sorted(_listed()))


@functools.cache
def _file() -> dict[str, Any]:
    text = resources.files("harness.judging").joinpath("prices.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@functools.cache
def _listed() -> Mapping[str, Price]:
    file = _file()
    factors = {name: file[name] for name in ("cache_write_factor", "cache_read_factor", "batch_factor")}
    return {model: Price(**price, **factors) for model, price in file["models"].items()}
