"""The batch judge against a real HTTP server on loopback that speaks the Message Batches API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from batches_server import Batches, shown
from messages_server import MessagesServer, Reply, message, ok, status

from harness.judging import BatchJudge, Budget, Grade, JudgeItem, Meter, Rubric
from harness.judging.account import Account
from harness.judging.prices import Price
from harness.pipeline.grading import StoredGrades
from harness.store import GradeStore, Store

KEY = "sk-ant-test-0123456789"
RUBRIC = Rubric.model_validate(
    {
        "name": "answers",
        "task": "Answers.",
        "criteria": [{"name": "correctness", "weight": 1.0, "anchors": {g: f"is {g}" for g in range(1, 6)}}],
    }
)
ITEMS = [JudgeItem(f"q{n}", "Q", "R", str(n)) for n in range(1, 6)]


def succeeded(grade: object) -> dict[str, Any]:
    text = json.dumps({"rationale": "Because.", "grades": {"correctness": grade}})
    return {"type": "succeeded", "message": message(text)}


def by_response(params: dict[str, Any]) -> dict[str, Any]:
    """The grade that the response asks for."""
    return succeeded(int(shown(params)["response"]))


def batch_judge(server: MessagesServer, store: GradeStore, **options: Any) -> BatchJudge:
    options = {"suite_seconds": 5.0, "poll_seconds": 0.02, "backoff_seconds": 0.01, **options}
    return BatchJudge(RUBRIC, KEY, base_url=server.url, batches=store, **options)


@pytest.fixture
def grades(tmp_path: Path) -> GradeStore:
    return GradeStore(tmp_path / "grades.sqlite")


def test_grades_are_matched_by_id_and_come_in_the_order_of_the_items(grades: GradeStore) -> None:
    api = Batches(by_response, polls=2)
    with MessagesServer(api) as server:
        found = batch_judge(server, grades).grade(ITEMS)
    assert [(g.id, g.score, g.rationale) for g in found] == [(f"q{n}", float(n), "Because.") for n in range(1, 6)]
    assert [len(ids) for ids in api.created] == [5]
    assert api.polled[:3] == ["msgbatch_1"] * 3
    assert grades.open_batches() == []


def test_one_answer_under_two_ids_is_asked_once(grades: GradeStore) -> None:
    api = Batches(by_response)
    twins = [JudgeItem("a", "Q", "R", "3"), JudgeItem("b", "Q", "R", "3")]
    with MessagesServer(api) as server:
        found = batch_judge(server, grades).grade(twins)
    assert [(g.id, g.score) for g in found] == [("a", 3.0), ("b", 3.0)]
    assert [len(ids) for ids in api.created] == [1]


def test_errors_and_expiry_leave_items_ungraded_with_their_reason(grades: GradeStore) -> None:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": f"bad {KEY}\nkey"}}
    refusal = message(None, stop_reason="refusal", stop_details={"category": "cyber"})
    results: dict[str, dict[str, Any] | None] = {
        "1": succeeded(4),
        "2": {"type": "errored", "error": error},
        "3": {"type": "expired"},
        "4": {"type": "succeeded", "message": refusal},
        "5": None,
        "6": {"type": "canceled"},
        "7": {"type": "new"},
        "8": succeeded(7),
    }
    items = [JudgeItem(f"q{n}", "Q", "R", n) for n in results]
    api = Batches(lambda params: results[shown(params)["response"]])
    api.extra = ["not JSON", json.dumps({"custom_id": "unknown", "result": succeeded(5)}), "[]"]
    with MessagesServer(api) as server:
        found = batch_judge(server, grades).grade(items)
    assert [g.score for g in found] == [4.0, *[None] * 7]
    assert [g.problem for g in found] == [
        None,
        "the judge's API answered invalid_request_error: bad <secret> key",
        "it expired in the batch before the judge came to it",
        "the judge refused to grade it (cyber)",
        "the batch has no result for it",
        "the batch was canceled before the judge came to it",
        "the batch has a result of the type 'new' for it",
        "the judge's grade of correctness is 7, not 1, 2, 3, 4 or 5",
    ]
    assert grades.open_batches() == [], "what failed is asked again in another batch"


def test_two_results_for_one_item_are_no_grade(grades: GradeStore) -> None:
    api = Batches(by_response)
    with MessagesServer(api) as server:
        judge = batch_judge(server, grades)
        api.extra = [json.dumps({"custom_id": judge._request_id(ITEMS[0]), "result": succeeded(5)})]
        found = judge.grade(ITEMS[:2])
    assert [(g.score, g.problem) for g in found] == [(None, "the batch has two results for it"), (2.0, None)]


@pytest.mark.parametrize(
    "first",
    [(status(529), status(429)), (status(500), status(503))],
    ids=["busy", "errors"],
)
def test_a_create_that_was_refused_is_repeated(grades: GradeStore, first: tuple[Reply, ...]) -> None:
    api = Batches(by_response, first=first)
    with MessagesServer(api) as server:
        assert [g.score for g in batch_judge(server, grades).grade(ITEMS)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(api.created) == 1


def test_a_create_that_may_have_arrived_is_not_repeated(grades: GradeStore) -> None:
    api = Batches(by_response, first=(Reply(b"", dropped=True),))
    with MessagesServer(api) as server:
        found = batch_judge(server, grades).grade(ITEMS)
    assert api.created == []
    assert {g.score for g in found} == {None}
    assert all((g.problem or "").startswith("the judge's API cannot be reached: ") for g in found)


def test_polling_survives_outages(grades: GradeStore) -> None:
    wrong = [Reply(b"", dropped=True), ok({}), Reply(b"<html>", headers={"content-type": "text/html"}), status(529)]

    class Flaky(Batches):
        def __call__(self, request: Any) -> Reply:
            if request.method == "GET" and wrong:
                return wrong.pop()
            return super().__call__(request)

    api = Flaky(by_response)
    with MessagesServer(api) as server:
        assert [g.score for g in batch_judge(server, grades).grade(ITEMS)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert wrong == []


def test_a_batch_that_takes_too_long_is_found_again_by_the_next_run(grades: GradeStore) -> None:
    api = Batches(by_response, polls=1_000)
    with MessagesServer(api) as server:
        started = time.monotonic()
        found = batch_judge(server, grades, suite_seconds=0.3).grade(ITEMS)
        assert time.monotonic() - started < 5.3
        said = "the batch msgbatch_1 did not end within 0.3 s; the next run goes on with it"
        assert {g.problem for g in found} == {said}
        api._polls = 0
        more = [*ITEMS, JudgeItem("q6", "another", "R", "2")]
        found = batch_judge(server, grades).grade(more)
    assert [g.score for g in found] == [1.0, 2.0, 3.0, 4.0, 5.0, 2.0]
    assert [len(ids) for ids in api.created] == [5, 1], "the second batch has only what is new"


def test_results_that_nobody_asked_for_yet_are_not_lost(grades: GradeStore) -> None:
    api = Batches(by_response, polls=1_000)
    with MessagesServer(api) as server:
        batch_judge(server, grades, suite_seconds=0.2).grade(ITEMS)
        api._polls = 0
        assert [g.score for g in batch_judge(server, grades).grade(ITEMS[:2])] == [1.0, 2.0]
        assert [g.score for g in batch_judge(server, grades).grade(ITEMS[2:])] == [3.0, 4.0, 5.0]
    assert len(api.created) == 1
    assert grades.open_batches() == []


def test_a_batch_that_is_gone_is_forgotten(grades: GradeStore) -> None:
    api = Batches(by_response)
    with MessagesServer(api) as server:
        judge = batch_judge(server, grades)
        grades.keep_batch("msgbatch_lost", [judge._request_id(ITEMS[0])])
        (lost,) = judge.grade(ITEMS[:1])
        assert lost.problem == "the judge's API refused the call: HTTP 404: no such batch"
        (again,) = batch_judge(server, grades).grade(ITEMS[:1])
    assert again.score == 1.0


def test_the_key_is_not_sent_to_another_address(grades: GradeStore) -> None:
    with MessagesServer([ok({})]) as elsewhere, MessagesServer(Batches(by_response, url=elsewhere.url)) as server:
        found = batch_judge(server, grades).grade(ITEMS[:1])
    assert found[0].problem == "the results of the batch msgbatch_1 are at another address, where the key is not sent"
    assert elsewhere.requests == []


def test_a_batch_costs_half_and_is_reserved_before_it_is_sent(grades: GradeStore) -> None:
    price = Price(2.0, 10.0)
    meter, budget = Meter(), Budget(1.0)
    with MessagesServer(Batches(by_response)) as server:
        account = Account(price, budget, meter, batch=True)
        batch_judge(server, grades, account=account).grade(ITEMS)
    # Each reply states 10 tokens in and 20 out: (10 * 2 + 20 * 10) / 1e6 USD, halved.
    assert budget.spent == pytest.approx(5 * 220e-6 / 2)
    assert (meter.calls, meter.usage.output_tokens) == (5, 100)

    api = Batches(by_response)
    with MessagesServer(api) as server:
        account = Account(price, Budget(0.05), Meter(), batch=True)
        found = batch_judge(server, grades, account=account).grade(
            [JudgeItem(f"p{n}", "Q", "R", f"1{n}") for n in range(5)]
        )
    # 4,096 tokens out at half of $10 are $0.0205, and some input: two calls fit, three do not.
    assert [len(ids) for ids in api.created] == [2]
    said = "the judge's budget of $0.05 does not allow another call (spent $0.0000)"
    assert [g.problem for g in found][2:] == [said] * 3


KILLED = """\
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_batch import ITEMS, RUBRIC, KEY
from harness.judging import BatchJudge
from harness.pipeline.grading import StoredGrades
from harness.store import Store
store = Store(Path({root!r}))
judge = BatchJudge(RUBRIC, KEY, base_url={url!r}, batches=store.grades, poll_seconds=0.05)
StoredGrades(judge, RUBRIC.digest, judge.prompt_version, store).grade(ITEMS)
"""


def test_a_run_that_was_killed_goes_on_with_its_batch(tmp_path: Path) -> None:
    api = Batches(by_response, polls=10_000)
    with MessagesServer(api) as server:
        path = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
        program = KILLED.format(path=path, root=str(tmp_path), url=server.url)
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            waited = time.monotonic() + 30
            while len(api.polled) < 2 and time.monotonic() < waited:
                time.sleep(0.02)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert api.polled, "the run was to be killed while it polled"
        api._polls = 0
        store = Store(tmp_path)
        judge = batch_judge(server, store.grades)
        found = StoredGrades(judge, RUBRIC.digest, judge.prompt_version, store).grade(ITEMS)
    assert [g.score for g in found] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(api.created) == 1, "the same batch"
    assert found[0] == Grade("q1", 1.0, {"correctness": 1.0}, "Because.")
