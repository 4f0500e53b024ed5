"""Which judges a project has, from its settings and the one secret that is read from the environment."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import JudgeError
from harness.judging.account import Account
from harness.judging.anthropic_judge import DEFAULT_MODEL, AnthropicJudge, Secret
from harness.judging.batch import BatchJudge, OpenBatches
from harness.judging.budget import Budget
from harness.judging.messages_api import DEFAULT_BASE_URL, is_private
from harness.judging.prices import Price, known_models, price_of, prices_as_of
from harness.judging.protocol import Judge
from harness.judging.rubric import Rubric
from harness.judging.settings import JudgeChoice, JudgeSettings
from harness.judging.standin import StandInJudge
from harness.judging.usage import Meter
from harness.progress import Progress

__all__ = ["configured_judges", "judge_from_environment"]

KEY = "ANTHROPIC_API_KEY"
_NO_KEY = "none"  # servers on this machine ask for none, and the SDK wants one


def judge_from_environment(rubric: Rubric, env: Mapping[str, str]) -> Judge:
    """The Anthropic judge where ANTHROPIC_API_KEY is set and not blank, else the stand-in.

    No other variable is read: the address of the API is never taken from the environment.
    """
    return configured_judges(rubric, JudgeSettings(), env)[0]


def configured_judges(
    rubric: Rubric,
    settings: JudgeSettings,
    env: Mapping[str, str],
    *,
    budget: Budget | None = None,
    meter: Meter | None = None,
    batches: OpenBatches | None = None,
    progress: Progress | None = None,
    asked: bool = True,
) -> tuple[Judge, ...]:
    """The judges of the settings, one or more, in order. batches: needed for the judge `batch`.

    asked: False for judges of which only earlier grades are looked up; they need no key.
    Raises JudgeError where a judge needs a key that is not set, where its address would show the key, and where there
    is a budget and a model's price is not known.
    """
    key = Secret(env.get(KEY, "").strip())
    del env  # pytest --showlocals would print it with the key, should anything below fail
    base_url = settings.base_url or DEFAULT_BASE_URL
    default = "anthropic" if key or settings.base_url else "stand-in"
    choices = settings.judges or (JudgeChoice(default),)
    if key and any(choice.kind != "stand-in" for choice in choices) and not is_private(base_url):
        raise JudgeError(
            f"harness_judge_base_url: the API key would go to {base_url} without encryption; use https, or unset {KEY}"
        )
    judges: list[Judge] = []
    for choice in choices:
        if choice.kind == "stand-in":
            judges.append(StandInJudge())
            continue
        if asked and not key and not settings.base_url:
            raise JudgeError(f"the judge {choice.kind} needs a key: set {KEY}, or choose the judge stand-in")
        model = choice.model or settings.model or DEFAULT_MODEL
        account = Account(_price(model, settings), budget, meter, batch=choice.kind == "batch")
        used = key or Secret(_NO_KEY)
        if choice.kind == "anthropic":
            judges.append(
                AnthropicJudge(
                    rubric,
                    used,
                    model=model,
                    base_url=base_url,
                    deadline_seconds=settings.call_seconds,
                    suite_seconds=settings.suite_seconds or 3_600.0,
                    concurrency=settings.concurrency,
                    calls_per_minute=settings.calls_per_minute,
                    account=account,
                    progress=progress,
                )
            )
            continue
        if batches is None:
            raise JudgeError("the judge batch needs a store, which keeps the ids of its batches")
        judges.append(
            BatchJudge(
                rubric,
                used,
                batches=batches,
                model=model,
                base_url=base_url,
                suite_seconds=settings.suite_seconds or 86_400.0,
                call_seconds=settings.call_seconds,
                account=account,
                progress=progress,
            )
        )
    return tuple(judges)


def _price(model: str, settings: JudgeSettings) -> Price | None:
    price = price_of(model, settings.prices)
    if price is None and settings.budget_usd is not None:
        raise JudgeError(
            f"harness_judge_budget is set, and the price of the model {model!r} is not known; the list of "
            f"{prices_as_of()} has {', '.join(known_models())}. Add it to harness_judge_prices, as "
            f"`{model} INPUT OUTPUT`, or take the budget away."
        )
    return price
