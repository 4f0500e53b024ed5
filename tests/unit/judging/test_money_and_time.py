"""Prices, usage, the budget and the rate limit, each on its own."""

from __future__ import annotations

import threading
import time
from datetime import date

import pytest

from harness.judging import Budget, Meter, prices_as_of
from harness.judging.account import Account
from harness.judging.prices import Price, known_models, price_of
from harness.judging.rate_limit import TokenBucket
from harness.judging.usage import Usage, joined_judging, read_usage

PRICE = Price(2.0, 10.0)


# ---- prices


def test_the_list_has_a_date_and_the_default_model() -> None:
    assert date.fromisoformat(prices_as_of()) <= date.today()
    assert price_of("claude-sonnet-5-5", {}) == Price(2.0, 10.0)
    assert price_of("claude-haiku-5-5", {}) == Price(0.1, 0.5)
    assert "claude-opus-5-5" in known_models()


def test_a_dated_snapshot_costs_what_its_model_does_and_own_prices_come_first() -> None:
    assert price_of("claude-sonnet-5-5-20261001", {}) == Price(2.0, 10.0)
    assert price_of("claude-sonnet-5-5", {"claude-sonnet-5-5": Price(1.0, 1.0)}) == Price(1.0, 1.0)
    assert price_of("qwen", {}) is None
    assert price_of("claude-sonnet-5-5-mini", {}) is None


def test_a_cost_counts_each_kind_of_token() -> None:
    usage = Usage(
        input_tokens=1_000_000, cache_write_tokens=1_000_000, cache_read_tokens=1_000_000, output_tokens=500_000
    )
    # 2 for the input, 2.5 for writing the cache, 0.2 for reading it, 5 for the output.
    assert PRICE.cost(usage) == pytest.approx(9.7)
    assert PRICE.cost(usage, batch=True) == pytest.approx(4.85)
    assert PRICE.most(1_000_000, 500_000) == pytest.approx(7.5)


# ---- usage


def test_usage_is_read_from_a_reply() -> None:
    stated = {"input_tokens": 5, "cache_creation_input_tokens": None, "cache_read_input_tokens": 7, "output_tokens": 3}
    assert read_usage({"usage": stated}) == Usage(5, 0, 7, 3)
    assert read_usage({"usage": {"input_tokens": 5, "output_tokens": 3}}) == Usage(5, 0, 0, 3)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        [],
        {"usage": None},
        {"usage": {"input_tokens": 5}},
        {"usage": {"input_tokens": -1, "output_tokens": 3}},
        {"usage": {"input_tokens": 1.5, "output_tokens": 3}},
        {"usage": {"input_tokens": True, "output_tokens": 3}},
        {"usage": {"input_tokens": 10**15, "output_tokens": 3}},
    ],
)
def test_usage_that_cannot_be_true_is_unknown(reply: object) -> None:
    assert read_usage(reply) is None


def test_a_meter_without_a_judge_has_no_summary() -> None:
    assert Meter().summary(5.0, "2026-11-23") is None


def test_the_costs_of_two_processes_add_up_unless_one_is_unknown() -> None:
    one, other = Meter(), Meter()
    for meter, cost in ((one, 0.25), (other, 0.5)):
        meter.count("a", graded=2, from_cache=1)
        meter.call(Usage(10, 0, 0, 5), cost)
    summaries = [meter.summary(1.0, "2026-11-23") for meter in (one, other)]
    both = joined_judging(*summaries)
    assert both is not None
    assert (both.graded, both.from_cache, both.calls, both.output_tokens, both.cost_usd) == (4, 2, 2, 10, 0.75)
    assert joined_judging(summaries[0], None) == summaries[0]
    other.call(Usage(1, 0, 0, 1), None)
    both = joined_judging(summaries[0], other.summary(1.0, "2026-11-23"))
    assert both is not None
    assert both.cost_usd is None


# ---- the account


def test_a_call_can_cost_at_most_its_bytes_and_its_longest_reply() -> None:
    params = {"max_tokens": 1_000, "text": "é" * 1_000}
    most = Account(PRICE).most(params)
    # 2,000 bytes of text are at least 2,000 tokens at 2.5 and 1,000 tokens out at 10, in millionths.
    assert most > 2_000 * 2.5e-6 + 1_000 * 10e-6


@pytest.mark.parametrize(
    ("usage", "billed", "spent", "unknown"),
    [
        (Usage(1_000, 0, 0, 100), True, 0.003, 0),  # 1,000 * 2 + 100 * 10, in millionths
        (None, True, 0.5, 1),  # it may have cost all that was reserved
        (None, False, 0.0, 0),
    ],
)
def test_a_call_counts_with_what_it_used(usage: Usage | None, billed: bool, spent: float, unknown: int) -> None:
    budget, meter = Budget(1.0), Meter()
    account = Account(PRICE, budget, meter)
    assert account.reserve(0.5, time.monotonic())
    account.settle(0.5, usage, billed=billed)
    assert budget.spent == pytest.approx(spent)
    assert meter.cost_usd == pytest.approx(spent)
    assert (meter.calls, meter.unknown_calls, meter.unpriced) == (1, unknown, False)


def test_without_a_price_the_cost_is_unknown_and_not_nothing() -> None:
    meter = Meter()
    meter.count("a", graded=1)
    account = Account(None, Budget(), meter)
    account.reserve(0.0, time.monotonic())
    account.settle(0.0, Usage(10, 0, 0, 5))
    summary = meter.summary(None, "2026-11-23")
    assert summary is not None
    assert summary.cost_usd is None
    assert account.estimate([{"max_tokens": 1}]).endswith("at a price that is not known")


def test_the_estimate_names_tokens_dollars_and_the_budget() -> None:
    text = Account(PRICE, Budget(5.0)).estimate([{"text": "x" * 3_500}] * 10)
    # 3,512 characters a call at 3.5 a token, 250 tokens out a call.
    assert text == "about 10,000 tokens in and 2,000 out, $0.05 (budget $5.00, spent $0.00)"


# ---- the budget


def test_what_is_reserved_counts_until_it_is_settled() -> None:
    budget = Budget(1.0)
    now = time.monotonic()
    assert budget.reserve(0.6, ends=now)
    assert not budget.reserve(0.6, ends=now), "the call under way may cost all of it"
    budget.settle(0.6, 0.1)
    assert budget.reserve(0.6, ends=now)
    budget.settle(0.6, 0.6)
    assert budget.spent == pytest.approx(0.7)


def test_a_call_waits_for_those_under_way() -> None:
    budget = Budget(1.0)
    assert budget.reserve(0.9, ends=time.monotonic())
    threading.Timer(0.1, budget.settle, (0.9, 0.01)).start()
    started = time.monotonic()
    assert budget.reserve(0.9, ends=started + 5.0)
    assert 0.05 < time.monotonic() - started < 2.0


def test_once_reached_nothing_passes_any_more() -> None:
    budget = Budget(1.0)
    assert not budget.reserve(1.1, ends=time.monotonic() + 60)
    assert not budget.reserve(0.1, ends=time.monotonic() + 60), "also what would fit"
    assert budget.reason() == "the judge's budget of $1.00 does not allow another call (spent $0.0000)"


def test_many_threads_do_not_pass_the_limit() -> None:
    budget = Budget(1.0)
    passed = []

    def spend() -> None:
        while budget.reserve(0.05, ends=time.monotonic() + 5.0):
            time.sleep(0.001)
            budget.settle(0.05, 0.04)
            passed.append(1)

    threads = [threading.Thread(target=spend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A call fits while 0.04 k + 0.05 <= 1, so after 23 calls a 24th does, and no 25th.
    assert len(passed) == 24
    assert budget.spent == pytest.approx(0.96)


# ---- the rate limit


def test_calls_are_spaced_after_the_burst() -> None:
    bucket = TokenBucket(600, burst=2)  # one each 0.1 s
    stopped = threading.Event()
    started = time.monotonic()
    assert all(bucket.acquire(started + 5, stopped) for _ in range(4))
    # Two at once, the third after 0.1 s, the fourth after 0.2 s.
    assert 0.19 <= time.monotonic() - started < 1.0


def test_a_call_that_would_come_too_late_is_refused_at_once() -> None:
    bucket = TokenBucket(1)
    stopped = threading.Event()
    started = time.monotonic()
    assert bucket.acquire(started, stopped) or bucket.acquire(time.monotonic() + 1, stopped)
    assert not bucket.acquire(time.monotonic() + 5, stopped)
    assert time.monotonic() - started < 1.0


def test_a_pause_holds_also_those_that_wait_already() -> None:
    bucket = TokenBucket(600)
    stopped = threading.Event()
    bucket.acquire(time.monotonic() + 1, stopped)
    started = time.monotonic()
    threading.Timer(0.02, bucket.pause, (0.3,)).start()
    assert bucket.acquire(started + 5, stopped)
    assert 0.3 <= time.monotonic() - started < 2.0
    bucket.pause(10.0)
    assert 9.0 < bucket.paused <= 10.0
    assert not bucket.acquire(time.monotonic() + 5, stopped)


def test_a_stop_ends_the_waiting() -> None:
    bucket = TokenBucket(1)
    stopped = threading.Event()
    bucket.acquire(time.monotonic() + 1, stopped)
    threading.Timer(0.05, stopped.set).start()
    started = time.monotonic()
    assert not bucket.acquire(started + 600, stopped)
    assert time.monotonic() - started < 2.0
