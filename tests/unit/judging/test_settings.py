"""Which judges a project has."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_panel import RUBRIC

from harness.errors import JudgeError
from harness.judging import (
    AnthropicJudge,
    BatchJudge,
    JudgeSettings,
    StandInJudge,
    configured_judges,
    judge_from_environment,
    read_settings,
)
from harness.judging.prices import Price
from harness.judging.settings import JudgeChoice
from harness.store import GradeStore

KEY = {"ANTHROPIC_API_KEY": "sk-ant-test-0123456789"}


def test_nothing_said_is_the_default() -> None:
    assert read_settings({}) == read_settings({"judge": None, "judge_model": " "}) == JudgeSettings()


def test_everything_can_be_said() -> None:
    settings = read_settings(
        {
            "judge": "anthropic, anthropic:claude-opus-5-5, batch: claude-haiku-5-5",
            "judge_model": "claude-sonnet-5-5",
            "judge_base_url": "https://example.org",
            "judge_budget": "2.50",
            "judge_panel": "mean",
            "judge_concurrency": "50",
            "judge_rate": "100",
            "judge_call_seconds": "30",
            "judge_suite_seconds": "600",
            "judge_prices": "my-model 0 0\nother 0.5 2",
        }
    )
    assert settings == JudgeSettings(
        judges=(
            JudgeChoice("anthropic"),
            JudgeChoice("anthropic", "claude-opus-5-5"),
            JudgeChoice("batch", "claude-haiku-5-5"),
        ),
        model="claude-sonnet-5-5",
        base_url="https://example.org",
        budget_usd=2.5,
        panel="mean",
        concurrency=50,
        calls_per_minute=100.0,
        call_seconds=30.0,
        suite_seconds=600.0,
        prices={"my-model": Price(0.0, 0.0), "other": Price(0.5, 2.0)},
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "judge",
            "claude",
            "judge must be among anthropic, batch, stand-in, got 'claude'; several are separated by commas",
        ),
        ("judge", "stand-in:x", "judge: the stand-in takes no model, got 'stand-in:x'"),
        ("judge", "batch, batch", "judge names one twice: 'batch, batch'; a panel needs judges that differ"),
        ("judge_budget", "five", "judge_budget must be a number of at least 0, got 'five'"),
        ("judge_budget", "-1", "judge_budget must be a number of at least 0, got '-1'"),
        ("judge_budget", "nan", "judge_budget must be a number of at least 0, got 'nan'"),
        ("judge_panel", "best", "judge_panel must be majority or mean, got 'best'"),
        ("judge_concurrency", "2.5", "judge_concurrency must be a whole number from 1 to 1000, got '2.5'"),
        ("judge_concurrency", "0", "judge_concurrency must be a number of at least 1, got '0'"),
        ("judge_rate", "0", "judge_rate must be above 0 calls a minute; leave it out for no limit"),
        ("judge_call_seconds", "0", "judge_call_seconds must be a number of at least 0.1, got '0'"),
        (
            "judge_prices",
            "my-model 1",
            "judge_prices must have lines such as `my-model 0.50 2.00`, USD per million tokens in and out, "
            "got 'my-model 1'",
        ),
        (
            "judge_prices",
            "my-model 1 -2",
            "judge_prices must have lines such as `my-model 0.50 2.00`, USD per million tokens in and out, "
            "got 'my-model 1 -2'",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(name: str, text: str, said: str) -> None:
    with pytest.raises(JudgeError) as caught:
        read_settings({name: text})
    assert str(caught.value) == said


def judges(texts: dict[str, str], env: dict[str, str], store: GradeStore | None = None) -> list[object]:
    return list(configured_judges(RUBRIC, read_settings(texts), env, batches=store))


def test_the_key_decides_where_nothing_is_said() -> None:
    assert isinstance(judge_from_environment(RUBRIC, {}), StandInJudge)
    assert isinstance(judge_from_environment(RUBRIC, {"ANTHROPIC_API_KEY": " "}), StandInJudge)
    assert isinstance(judge_from_environment(RUBRIC, KEY), AnthropicJudge)
    (stand_in,) = judges({"judge": "stand-in"}, KEY)
    assert isinstance(stand_in, StandInJudge)


def test_models_and_kinds_are_as_chosen(tmp_path: Path) -> None:
    texts = {"judge": "anthropic, batch:claude-haiku-5-5", "judge_model": "claude-opus-5-5"}
    one, other = judges(texts, KEY, GradeStore(tmp_path / "g.sqlite"))
    assert isinstance(one, AnthropicJudge)
    assert isinstance(other, BatchJudge)
    assert (one.name, other.name) == ("anthropic claude-opus-5-5", "anthropic claude-haiku-5-5")
    assert one.prompt_version == other.prompt_version


def test_a_server_of_ones_own_needs_no_key_and_is_named() -> None:
    (judge,) = judges({"judge_base_url": "http://localhost:8000", "judge_model": "qwen"}, {})
    assert isinstance(judge, AnthropicJudge)
    assert judge.name == "anthropic qwen at localhost:8000"


@pytest.mark.parametrize(
    ("texts", "env", "said"),
    [
        (
            {"judge": "anthropic"},
            {},
            "the judge anthropic needs a key: set ANTHROPIC_API_KEY, or choose the judge stand-in",
        ),
        ({"judge": "batch"}, KEY, "the judge batch needs a store, which keeps the ids of its batches"),
        (
            {"judge_base_url": "http://example.org"},
            KEY,
            "harness_judge_base_url: the API key would go to http://example.org without encryption; use https, or "
            "unset ANTHROPIC_API_KEY",
        ),
        (
            {"judge_base_url": "ftp://example.org"},
            {},
            "judge_base_url: the judge's base URL must be like https://host:port, got 'ftp://example.org'",
        ),
        (
            {"judge_base_url": "https://me:secret@example.org"},
            KEY,
            "judge_base_url: the judge's base URL must have no user and no password in it; reports show the address",
        ),
        (
            {"judge_base_url": "https://me:secret@example.org:port"},
            KEY,
            "judge_base_url: the judge's base URL must be like https://host:port, got 'https://<secret>@example.org:port'",
        ),
        (
            {"judge_base_url": "https://example.org/?a=b"},
            KEY,
            "judge_base_url: the judge's base URL must end with its path, got 'https://example.org/?a=b'",
        ),
        (
            {"judge_budget": "1", "judge_model": "qwen"},
            KEY,
            "harness_judge_budget is set, and the price of the model 'qwen' is not known; the list of 2026-11-23 has "
            "claude-haiku-5-5, claude-opus-5-5, claude-sonnet-4-6, claude-sonnet-5-5. Add it to "
            "harness_judge_prices, as `qwen INPUT OUTPUT`, or take the budget away.",
        ),
    ],
)
def test_a_judge_that_cannot_be_had_is_refused(texts: dict[str, str], env: dict[str, str], said: str) -> None:
    with pytest.raises(JudgeError) as caught:
        judges(texts, env)
    assert str(caught.value) == said


def test_a_judge_that_is_not_asked_needs_no_key() -> None:
    (judge,) = configured_judges(RUBRIC, read_settings({"judge": "anthropic"}), {}, asked=False)
    assert judge.name == judge_from_environment(RUBRIC, KEY).name


def test_a_price_of_ones_own_allows_a_budget() -> None:
    texts = {"judge_budget": "1", "judge_model": "qwen", "judge_prices": "qwen 0 0"}
    assert isinstance(judges(texts, KEY)[0], AnthropicJudge)


def test_processes_share_a_budget() -> None:
    assert JudgeSettings(budget_usd=3.0, processes=2).budget_here == 1.5
    assert JudgeSettings(processes=2).budget_here is None
