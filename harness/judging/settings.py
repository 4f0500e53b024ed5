"""What a project chose for its judges, read from texts: ini keys, options, environment variables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from harness.errors import JudgeError
from harness.judging.messages_api import checked_url
from harness.judging.prices import Price

__all__ = ["SETTINGS", "VARIABLES", "JudgeChoice", "JudgeSettings", "read_settings"]

KINDS = ("anthropic", "batch", "stand-in")
SETTINGS = (
    "judge",
    "judge_model",
    "judge_base_url",
    "judge_budget",
    "judge_panel",
    "judge_concurrency",
    "judge_rate",
    "judge_call_seconds",
    "judge_suite_seconds",
    "judge_prices",
)
"""The names of the settings, as they follow "harness_" in an ini file."""
VARIABLES = ("judge", "judge_model", "judge_budget")
"""Those that HARNESS_* can say too. Where the key is sent to is never taken from the environment."""


class JudgeChoice(NamedTuple):
    """A kind of judge, and the model where it is one. model: None takes that of the settings."""

    kind: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """judges: none takes the Anthropic judge where there is a key or a base_url, and else the stand-in.

    model, base_url: None takes the default. budget_usd: for a whole run. panel: how several judges are joined.
    concurrency, calls_per_minute: of each judge. call_seconds: for one answer. suite_seconds: for all answers of a
    judge; None takes an hour, and a day for batches. prices: model -> price, before the list.
    processes: how many share the budget, each with an equal part.
    """

    judges: tuple[JudgeChoice, ...] = ()
    model: str | None = None
    base_url: str | None = None
    budget_usd: float | None = None
    panel: Literal["majority", "mean"] = "majority"
    concurrency: int = 8
    calls_per_minute: float | None = None
    call_seconds: float = 120.0
    suite_seconds: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    processes: int = 1

    @property
    def budget_here(self) -> float | None:
        """USD that this process may spend; processes do not know of each other's calls."""
        return None if self.budget_usd is None else self.budget_usd / self.processes


def read_settings(texts: Mapping[str, str | None]) -> JudgeSettings:
    """The settings in `texts`, from a name of SETTINGS to what was written; None and "" take the default.

    Raises JudgeError that names the setting, what was found and what is allowed.
    """
    chosen = {name: text.strip() for name, text in texts.items() if text is not None and text.strip()}
    panel = chosen.get("judge_panel", "majority")
    if panel not in ("majority", "mean"):
        raise JudgeError(f"judge_panel must be majority or mean, got {panel!r}")
    concurrency = _number(chosen, "judge_concurrency", 8.0, least=1.0)
    if concurrency is None or concurrency != int(concurrency) or concurrency > 1000:
        raise JudgeError(
            f"judge_concurrency must be a whole number from 1 to 1000, got {chosen['judge_concurrency']!r}"
        )
    rate = _number(chosen, "judge_rate", None)
    if rate == 0:
        raise JudgeError("judge_rate must be above 0 calls a minute; leave it out for no limit")
    return JudgeSettings(
        judges=_judges(chosen.get("judge", "")),
        model=chosen.get("judge_model"),
        base_url=_url(chosen.get("judge_base_url")),
        budget_usd=_number(chosen, "judge_budget", None),
        panel=cast('Literal["majority", "mean"]', panel),
        concurrency=int(concurrency),
        calls_per_minute=rate,
        call_seconds=cast(float, _number(chosen, "judge_call_seconds", 120.0, least=0.1)),
        suite_seconds=_number(chosen, "judge_suite_seconds", None, least=0.1),
        prices=_prices(chosen.get("judge_prices", "")),
    )


def _url(text: str | None) -> str | None:
    try:
        return None if text is None else checked_url(text)
    except JudgeError as error:
        raise JudgeError(f"judge_base_url: {error}") from None


def _judges(text: str) -> tuple[JudgeChoice, ...]:
    """`anthropic:MODEL, batch, stand-in` as choices, in order."""
    choices = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, _, model = part.partition(":")
        if kind not in KINDS:
            raise JudgeError(f"judge must be among {', '.join(KINDS)}, got {kind!r}; several are separated by commas")
        if kind == "stand-in" and model:
            raise JudgeError(f"judge: the stand-in takes no model, got {part!r}")
        choices.append(JudgeChoice(kind, model.strip() or None))
    if len(set(choices)) < len(choices):
        raise JudgeError(f"judge names one twice: {text!r}; a panel needs judges that differ")
    return tuple(choices)


def _number(chosen: Mapping[str, str], name: str, default: float | None, *, least: float = 0.0) -> float | None:
    if name not in chosen:
        return default
    try:
        number = float(chosen[name])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= least):
        raise JudgeError(f"{name} must be a number of at least {least:g}, got {chosen[name]!r}")
    return number


def _prices(text: str) -> dict[str, Price]:
    """Lines `MODEL INPUT OUTPUT`, in USD per million tokens; commas separate as line ends do."""
    prices = {}
    for line in filter(None, (line.strip() for line in text.replace(",", "\n").splitlines())):
        try:
            model, *numbers = line.split()
            price_in, price_out = map(float, numbers)
        except ValueError:
            price_in = price_out = math.nan
        if not all(math.isfinite(price) and price >= 0 for price in (price_in, price_out)):
            raise JudgeError(
                f"judge_prices must have lines such as `my-model 0.50 2.00`, USD per million tokens in and out, "
                f"got {line!r}"
            )
        prices[model] = Price(price_in, price_out)
    return prices
