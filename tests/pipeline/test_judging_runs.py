"""Judging as a run does it, with the store, against a real HTTP server: outages, kills, money, secrets."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from messages_server import MessagesServer, Reply, Request, graded, message, ok, status

from harness.judging import AnthropicJudge, Budget, Grade, JudgeItem, Meter, Rubric
from harness.judging.account import Account
from harness.judging.prices import Price
from harness.pipeline.grading import StoredGrades
from harness.store import Store

KEY = "sk-ant-test-0123456789"
RUBRIC = Rubric.model_validate(
    {
        "name": "answers",
        "task": "Answers.",
        "criteria": [{"name": "correctness", "weight": 1.0, "anchors": {g: f"is {g}" for g in range(1, 6)}}],
    }
)
ITEMS = [JudgeItem(f"q{n}", "Q", "R", f"{n}") for n in range(12)]
DEADLINE = 2.0


def response_in(request: Request) -> str:
    material = json.loads(request.body["messages"][0]["content"].split("\n")[2])
    return str(material["response"])


def right(response: str) -> float:
    """The grade that the server gives, another for each item."""
    return float(1 + int(response) % 5)


def healthy(request: Request) -> Reply:
    return graded({"correctness": int(right(response_in(request)))})


def stored(server: MessagesServer, store: Store, **options: Any) -> StoredGrades:
    options = {"deadline_seconds": DEADLINE, "backoff_seconds": 0.02, "concurrency": 6, **options}
    judge = AnthropicJudge(RUBRIC, KEY, base_url=server.url, **options)
    return StoredGrades(judge, RUBRIC.digest, judge.prompt_version, store)


def check(grades: list[Grade], failed: set[str]) -> None:
    """Every item once and in order, with its own grade, or with a reason and without one."""
    assert [grade.id for grade in grades] == [item.id for item in ITEMS]
    for grade, item in zip(grades, ITEMS, strict=True):
        if item.id in failed:
            assert (grade.score, dict(grade.criteria)) == (None, {})
            assert grade.problem
        else:
            assert (grade.score, grade.problem) == (right(item.response), None)


TEXT = json.dumps({"rationale": "Fine.", "grades": {"correctness": 5}})
HEADERS = {"content-type": "application/json"}
THINKING = [{"type": "thinking", "thinking": TEXT, "signature": "x"}]

# What each of the failing items meets, again and again.
LASTING = {
    "429": status(429),
    "429, retry-after 3600": status(429, retry_after="3600"),
    "500": status(500),
    "529 storm": status(529, "overloaded_error"),
    "hang": Reply(b"", delay=3.5),
    "dropped before the reply": Reply(b"", dropped=True),
    "dropped in the reply": Reply(ok(message(TEXT)).body, headers=HEADERS, missing=30),
    "truncated JSON": Reply(ok(message(TEXT)).body[:-30], headers=HEADERS),
    "{}": ok({}),
    "HTML": Reply(b"<html><body>Welcome</body></html>", headers={"content-type": "text/html"}),
    "refusal": ok(message(None, stop_reason="refusal", stop_details={"category": "cyber"})),
    "max_tokens": ok(message(TEXT, stop_reason="max_tokens")),
    "another model": ok(message(TEXT, model="claude-haiku-5-5")),
    "only thinking": ok(message(None, content=THINKING)),
    "out of range": graded({"correctness": 6}),
}


@pytest.mark.parametrize("outage", LASTING)
def test_an_outage_of_some_answers_loses_these_and_no_others(outage: str, tmp_path: Path) -> None:
    hit = {"q3", "q7", "q11"}
    over: list[int] = []

    def reply(request: Request) -> Reply:
        return LASTING[outage] if f"q{response_in(request)}" in hit and not over else healthy(request)

    # A retry-after holds all calls back, so those that it hits come last.
    concurrency = 1 if "3600" in outage else 6
    order = sorted(ITEMS, key=lambda item: item.id in hit)
    store = Store(tmp_path)
    with MessagesServer(reply) as server:
        judge = stored(server, store, concurrency=concurrency)
        judge._judge._api.client()  # type: ignore[attr-defined]  # loading the SDK is not what is timed
        started = time.monotonic()
        found = {grade.id: grade for grade in judge.grade(order)}
        assert time.monotonic() - started < DEADLINE + 5.0
        check([found[item.id] for item in ITEMS], hit)
        over.append(len(server.requests))
        check(stored(server, store, concurrency=1).grade(ITEMS), set())
    again = [f"q{response_in(request)}" for request in server.requests[over[0] :]]
    assert sorted(again) == sorted(hit), "only what was missing"


@pytest.mark.parametrize(
    "first",
    [status(429), status(429, retry_after="0.2"), status(500), status(529), Reply(b"", dropped=True)],
    ids=["429", "429, retry-after", "500", "529", "dropped"],
)
def test_an_outage_that_passes_loses_nothing(first: Reply, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def reply(request: Request) -> Reply:
        response = response_in(request)
        seen[response] += 1
        return first if seen[response] == 1 else healthy(request)

    with MessagesServer(reply) as server:
        started = time.monotonic()
        check(stored(server, Store(tmp_path), deadline_seconds=5.0).grade(ITEMS), set())
        assert time.monotonic() - started < 10.0
    assert set(seen.values()) == {2}


def test_thinking_first_is_a_reply_like_any_other(tmp_path: Path) -> None:
    def reply(request: Request) -> Reply:
        text = json.dumps({"rationale": "", "grades": {"correctness": int(right(response_in(request)))}})
        return ok(message(None, content=[*THINKING, {"type": "text", "text": text}]))

    with MessagesServer(reply) as server:
        check(stored(server, Store(tmp_path)).grade(ITEMS), set())


def test_a_server_that_starts_slowly_is_waited_for(tmp_path: Path) -> None:
    with MessagesServer(healthy) as before:
        port = int(before.url.rpartition(":")[2])
    later: list[MessagesServer] = []
    program = "import sys, time; time.sleep(0.5)"
    starter = subprocess.Popen([sys.executable, "-c", program])
    judge = stored(before, Store(tmp_path), deadline_seconds=4.0, backoff_seconds=0.2)

    def start() -> None:
        starter.wait()
        later.append(MessagesServer(healthy, port))
        later[0].__enter__()

    import threading

    thread = threading.Thread(target=start)
    thread.start()
    try:
        check(judge.grade(ITEMS), set())
    finally:
        thread.join()
        later[0].__exit__(None, None, None)


def test_a_retry_after_holds_all_calls_back(tmp_path: Path) -> None:
    at: list[float] = []

    def reply(request: Request) -> Reply:
        at.append(time.monotonic())
        return status(429, retry_after="0.5") if len(at) == 1 else healthy(request)

    with MessagesServer(reply) as server:
        check(stored(server, Store(tmp_path), concurrency=1, deadline_seconds=5.0).grade(ITEMS), set())
    assert at[1] - at[0] >= 0.5
    with MessagesServer([status(429, retry_after="3600")]) as server:
        found = stored(server, Store(tmp_path / "other"), concurrency=1).grade(ITEMS)
    assert len(server.requests) == 1, "the server asked all calls to wait"
    assert {grade.score for grade in found} == {None}
    assert (found[-1].problem or "").startswith("the judge's API asked to wait another 3")


def test_all_answers_together_have_a_deadline_too(tmp_path: Path) -> None:
    def slow(request: Request) -> Reply:
        reply = healthy(request)
        return Reply(reply.body, headers=reply.headers, delay=0.3)

    with MessagesServer(slow) as server:
        judge = stored(server, Store(tmp_path), concurrency=2, suite_seconds=1.5)
        judge._judge._api.client()  # type: ignore[attr-defined]
        started = time.monotonic()
        found = judge.grade(ITEMS)
        assert time.monotonic() - started < 6.5
    done = [grade for grade in found if grade.score is not None]
    assert 1 <= len(done) < 12
    late = {grade.problem for grade in found if grade.score is None}
    assert "the judging took longer than 1.5 s" in late


def test_calls_a_minute_are_limited(tmp_path: Path) -> None:
    with MessagesServer(healthy) as server:
        judge = stored(server, Store(tmp_path), calls_per_minute=1200.0)  # one each 0.05 s
        judge._judge._api.client()  # type: ignore[attr-defined]
        started = time.monotonic()
        check(judge.grade(ITEMS), set())
    assert time.monotonic() - started >= 11 * 0.05


# ---- A run that is killed

PROGRAM = """\
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_judging_runs import RUBRIC, many, stored
from harness.store import Store
class Server:
    url = {url!r}
stored(Server, Store(Path({root!r})), concurrency=4, deadline_seconds=20.0).grade(many())
"""


def many() -> list[JudgeItem]:
    return [JudgeItem(f"q{n}", "Q", "R", f"{n}") for n in range(60)]


def test_a_run_that_was_killed_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    def slow(request: Request) -> Reply:
        reply = healthy(request)
        return Reply(reply.body, headers=reply.headers, delay=0.05)

    root = Path(__file__).parents[2]
    path = [str(Path(__file__).parent), str(root / "tests" / "unit" / "judging"), str(root)]
    with MessagesServer(slow) as server:
        program = PROGRAM.format(path=path, url=server.url, root=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            waited = time.monotonic() + 60
            while len(server.requests) < 20 and time.monotonic() < waited:
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.2)  # what the server is still to take in
        before = len(server.requests)
        assert 20 <= before < 60, "it was to be killed in the middle"
        found = stored(server, Store(tmp_path), deadline_seconds=20.0).grade(many())
    assert [(grade.id, grade.score) for grade in found] == [(i.id, right(i.response)) for i in many()]
    again = [response_in(request) for request in server.requests[before:]]
    assert len(set(again)) == len(again)
    # At most the four calls under way, and one grade for each that had come and was not yet written.
    assert 60 - before <= len(again) <= 60 - before + 8


# ---- What is kept

CHANGES: dict[str, Callable[[], Any]] = {
    "rubric": lambda: RUBRIC.model_copy(update={"task": "Other answers."}),
    "show_reference": lambda: RUBRIC.model_copy(update={"show_reference": False}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_rubric_is_asked_anew(change: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with MessagesServer(healthy) as server:
        stored(server, store).grade(ITEMS[:2])
        rubric = CHANGES[change]()
        judge = AnthropicJudge(rubric, KEY, base_url=server.url)
        StoredGrades(judge, rubric.digest, judge.prompt_version, store).grade(ITEMS[:2])
    assert len(server.requests) == 4


def test_the_prompt_version_is_the_same_in_every_process_and_another_for_another_rubric() -> None:
    one = AnthropicJudge(RUBRIC, KEY).prompt_version
    assert one == AnthropicJudge(RUBRIC, KEY, model="claude-opus-5-5").prompt_version
    assert one != AnthropicJudge(CHANGES["rubric"](), KEY).prompt_version


def test_a_damaged_row_is_asked_again_and_never_used(tmp_path: Path) -> None:
    import sqlite3

    store = Store(tmp_path)
    with MessagesServer(healthy) as server:
        stored(server, store).grade(ITEMS)
        connection = sqlite3.connect(store.grades.file)
        connection.execute("UPDATE grades SET value = replace(value, '\"score\": 1.0', '\"score\": 5.0')")
        connection.commit()
        connection.close()
        check(stored(server, Store(tmp_path)).grade(ITEMS), set())
    # Of 0 to 11, the responses 0, 5 and 10 have the grade 1.
    assert sorted(map(response_in, server.requests[12:])) == ["0", "10", "5"]


# ---- Money


def test_the_budget_is_a_hard_stop_and_the_rest_is_unscored(tmp_path: Path) -> None:
    price = Price(2.0, 10.0)
    meter, budget = Meter(), Budget(0.05)
    with MessagesServer(healthy) as server:
        judge = AnthropicJudge(
            RUBRIC, KEY, base_url=server.url, account=Account(price, budget, meter), concurrency=4, max_tokens=1_000
        )
        stored_grades = StoredGrades(judge, RUBRIC.digest, judge.prompt_version, Store(tmp_path), meter)
        assert all(grade.score is not None for grade in stored_grades.grade(ITEMS)), "actual costs are far below"
        # 10 tokens in and 20 out each: 12 * 220 millionths.
        assert budget.spent == pytest.approx(12 * 220e-6)
        tight = AnthropicJudge(
            RUBRIC, KEY, base_url=server.url, account=Account(price, Budget(0.0205), meter), max_tokens=1_000
        )
        # A call can cost 0.01 for its reply and some 0.006 for its prompt: one fits, and after it another, until what
        # was spent leaves no room for it. How many that are follows from 220 millionths a call.
        more = [JudgeItem(f"p{n}", "other", "R", f"{n}") for n in range(100)]
        before = len(server.requests)
        found = StoredGrades(tight, RUBRIC.digest, tight.prompt_version, Store(tmp_path), meter).grade(more)
    made = len(server.requests) - before
    params = tight._params(tight._form.question(more[50]))
    most = Account(price).most(params)
    assert made == sum(grade.score is not None for grade in found)
    assert abs(made - int((0.0205 - most) / 220e-6)) <= 2
    assert 0 < made < 100
    said = {grade.problem for grade in found if grade.score is None}
    assert len(said) == 1
    assert said.pop().startswith("the judge's budget of $0.02 does not allow another call (spent $0.0")  # type: ignore[union-attr]


def test_a_call_that_hangs_counts_with_the_most_it_can_cost(tmp_path: Path) -> None:
    meter, budget = Meter(), Budget(1.0)
    account = Account(Price(2.0, 10.0), budget, meter)
    with MessagesServer([Reply(b"", delay=1.0)]) as server:
        judge = AnthropicJudge(RUBRIC, KEY, base_url=server.url, account=account, deadline_seconds=0.2)
        judge.grade(ITEMS[:1])
    assert meter.unknown_calls == 1
    assert budget.spent == pytest.approx(account.most(judge._params(judge._form.question(ITEMS[0]))), rel=0.01)


def test_the_estimate_comes_before_the_first_call_and_only_for_what_is_new(tmp_path: Path) -> None:
    said: list[str] = []

    class Lines:
        def start(self, task: str, total: int) -> None: ...
        def advance(self, done: int, note: str = "") -> None: ...
        def finish(self, note: str = "") -> None: ...
        def message(self, line: str) -> None:
            said.append(f"{len(server.requests)}: {line}")

    with MessagesServer(healthy) as server:
        for items in (ITEMS[:8], ITEMS, ITEMS):
            account = Account(Price(2.0, 10.0), Budget(5.0))
            stored(server, Store(tmp_path), account=account, progress=Lines()).grade(items)
    assert len(said) == 2
    assert said[0].startswith("0: judge claude-sonnet-5-5: 8 answers to grade, about ")
    assert said[0].endswith("(budget $5.00, spent $0.00)")
    assert said[1].startswith("8: judge claude-sonnet-5-5: 4 answers to grade, about ")


# ---- Secrets


def test_the_key_is_in_no_log_cache_exception_or_grade(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that quotes the key wherever it can, and a fault inside the SDK."""
    caplog.set_level(logging.DEBUG)
    quoting = json.dumps({"rationale": f"Your key is {KEY}.", "grades": {"correctness": 4}})
    replies = [
        ok(message(quoting)),
        status(500, said=f"bad {KEY}"),
        status(400, said=f"bad {KEY}"),
        ok(message(quoting, model=f"{'x' * 360}{KEY}")),
        ok(message(json.dumps({"rationale": "", "grades": {"correctness": KEY}}))),
        ok(message(None, stop_reason="refusal", stop_details={"category": KEY})),
        ok(message(None, stop_reason=KEY)),
    ]
    with MessagesServer(replies) as server:
        grader = stored(server, Store(tmp_path), concurrency=1)
        found = grader.grade(ITEMS[:6])
        judge = grader._judge

        def broken(*_: object, **__: object) -> object:
            raise RuntimeError(f"a fault with {KEY}")

        monkeypatch.setattr(judge._api.client().messages, "_post", broken)  # type: ignore[attr-defined]
        (fault,) = judge.grade([ITEMS[7]])
    half = KEY[:12]
    assert found[0].rationale == "Your key is <secret>."
    assert [grade.score for grade in found] == [4.0, None, None, None, None, None]
    assert fault.problem == "the call to the judge failed: RuntimeError"
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"Your key is" in files, "the grade is there, so its text would be"
    texts = [caplog.text, repr(found), repr(fault), repr(judge), repr(vars(judge)), repr(vars(judge._api))]  # type: ignore[attr-defined]
    assert caplog.text
    assert half.encode() not in files
    assert [text for text in texts if half in text] == []


def test_an_exception_with_its_locals_does_not_show_the_key() -> None:
    """What pytest --showlocals and other tracebacks with locals print."""
    with MessagesServer([Reply(b"", dropped=True)]) as server:
        judge = AnthropicJudge(RUBRIC, KEY, base_url=server.url, backoff_seconds=0.01)
        try:
            judge._ask(judge._params(judge._form.question(ITEMS[0])), time.monotonic() + 5)
        except Exception as error:
            shown = traceback.TracebackException.from_exception(error, capture_locals=True)
            text = "".join(shown.format())
    assert "params = " in text, "locals are there"
    assert KEY not in text
