"""Claude compares pairs, against a real HTTP server on loopback. What it is told, and what it must not learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from messages_server import MessagesServer, Reply, Request, message, ok, status

from harness.judging import AnthropicJudge, Pair, PairwiseJudge, Preference, Rubric
from harness.measures import Judged
from harness.records import Example, Message, Outputs

KEY = "sk-ant-test-0123456789"
RUBRIC = Rubric.model_validate(
    {
        "name": "answers",
        "task": "Answers to questions on PostgreSQL.",
        "criteria": [
            {"name": name, "weight": weight, "anchors": {g: f"{name} is {g}" for g in range(1, 6)}}
            for name, weight in (("correctness", 3.0), ("brevity", 0.5))
        ],
    }
)
PAIR = Pair("q1", "What is VACUUM for?", "It reclaims dead rows.", "It frees space.", "It sorts tables.")


def verdict(better: object, rationale: str = "Because.") -> Reply:
    return ok(message(json.dumps({"rationale": rationale, "better": better})))


def prefer(
    replies: Sequence[Reply] | Callable[[Request], Reply], *pairs: Pair, rubric: Rubric = RUBRIC, **options: Any
) -> tuple[list[Preference], MessagesServer]:
    options = {"deadline_seconds": 10.0, "backoff_seconds": 0.01, **options}
    with MessagesServer(replies) as server:
        judge = AnthropicJudge(rubric, KEY, base_url=server.url, **options)
        return judge.prefer(pairs or (PAIR,)), server


def material(request: Request) -> dict[str, str]:
    """What stands between the markers, with the form that it has to have."""
    instruction, marker, text, end = request.body["messages"][0]["content"].split("\n")
    assert marker == end
    assert instruction == f"Compare `first` with `second`. The material stands between the two lines {marker}."
    found: dict[str, str] = json.loads(text)
    return found


@pytest.mark.parametrize("better", ["first", "second", "tie"])
def test_a_verdict_comes_with_its_rationale(better: str) -> None:
    (result,), server = prefer([verdict(better, "It is right.")])
    assert result == Preference("q1", better, "It is right.", None)  # type: ignore[arg-type]
    assert len(server.requests) == 1


def test_the_request_has_the_rubric_the_pair_in_its_order_and_a_schema_with_an_enum() -> None:
    _, server = prefer([verdict("tie")])
    body = server.requests[0].body
    system = body["system"][0]["text"]
    assert RUBRIC.task in system
    assert "Criterion `correctness`, weight 3\n" in system
    assert "Criterion `brevity`, weight 0.5\n" in system
    for grade in range(1, 6):
        assert f"{grade}: correctness is {grade}" in system
    for text in (PAIR.question, PAIR.reference, PAIR.first, PAIR.second):
        assert text not in system
    assert list(material(server.requests[0]).items()) == [
        ("question", PAIR.question),
        ("reference", PAIR.reference),
        ("first", PAIR.first),
        ("second", PAIR.second),
    ]
    schema = body["output_config"]["format"]["schema"]
    assert list(schema["properties"]) == ["rationale", "better"]
    assert schema["properties"]["better"]["enum"] == ["first", "second", "tie"]
    assert schema["additionalProperties"] is False
    assert not {"temperature", "top_p", "top_k", "tools", "tool_choice"} & set(body)


def test_the_reference_is_shown_only_where_the_rubric_says_so() -> None:
    _, server = prefer([verdict("tie")], rubric=RUBRIC.model_copy(update={"show_reference": False}))
    assert PAIR.reference not in json.dumps(server.requests[0].body)
    assert set(material(server.requests[0])) == {"question", "first", "second"}


def test_the_request_tells_neither_view_nor_id_nor_which_of_the_orders_it_is() -> None:
    """Of the answers alone, whoever answered and however they are asked: the two calls differ in the order only."""
    examples = [
        Example(f"secret-id-{k}", (Message("system", "You are a."), Message("user", f"Question {k}?")), f"Right {k}.")
        for k in range(20)
    ]

    def answer(view: str) -> Outputs:
        words = {"adapter": "Alpha", "prompted_base": "Beta"}[view]
        return Outputs(view, tuple(e.id for e in examples), tuple(f"{words} {k}" for k in range(20)))

    with MessagesServer([verdict("first")]) as server:
        judge = AnthropicJudge(RUBRIC, KEY, base_url=server.url)
        judged = Judged(examples, answer, judge, prefer=judge.prefer, seed=0)
        judged.win_rate.against("prompted_base").scores("adapter")
    assert len(server.requests) == 40
    asked: dict[str, list[tuple[str, str]]] = {}
    for request in server.requests:
        text = json.dumps(request.body)
        for leak in ("secret-id", "adapter", "prompted", "base", "promoted", "swap", "order"):
            assert leak not in text.replace("criteria", ""), leak
        shown = material(request)
        assert set(shown) == {"question", "reference", "first", "second"}
        asked.setdefault(shown["question"], []).append((shown["first"], shown["second"]))
        # Everything else is the same in each call, whichever side stands first.
        assert request.body["system"] == server.requests[0].body["system"]
        assert set(request.body) == set(server.requests[0].body)
    assert len(asked) == 20
    assert all(len(orders) == 2 and orders[0] == orders[1][::-1] for orders in asked.values())


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (verdict("third"), "the judge's verdict is 'third', not 'first', 'second' or 'tie'"),
        (verdict(None), "the judge's verdict is None, not 'first', 'second' or 'tie'"),
        (verdict(["first"]), "the judge's verdict is ['first'], not 'first', 'second' or 'tie'"),
        (ok(message('{"grades": {"correctness": 5}}')), "the judge's verdict is None, not 'first', 'second' or 'tie'"),
        (ok(message('["first"]')), "the judge's verdict is None, not 'first', 'second' or 'tie'"),
        (ok(message("first")), "what the judge wrote is not JSON"),
        (ok({}), "the judge's reply ended with stop_reason None, not 'end_turn'"),
        (ok(message(None, stop_reason="refusal")), "the judge refused to grade it"),
        (ok(message("{", stop_reason="max_tokens")), "the judge's reply was cut off at 4096 tokens"),
        (status(400, "invalid_request_error", "too long"), "the judge's API answered HTTP 400: too long"),
    ],
)
def test_any_other_reply_leaves_the_pair_without_a_verdict(reply: Reply, problem: str) -> None:
    (result,), _ = prefer([reply])
    assert result == Preference("q1", None, problem=problem)


def test_failures_that_pass_are_repeated_and_those_of_the_key_stop_all_calls() -> None:
    (result,), server = prefer([status(429), status(529), verdict("second")])
    assert (result.verdict, len(server.requests)) == ("second", 3)
    pairs = [Pair(f"q{k}", "", "", "a", "b") for k in range(5)]
    results, server = prefer([status(401, "authentication_error", "no")], *pairs, concurrency=1)
    assert len(server.requests) == 1
    assert {one.problem for one in results} == {"the judge's API refused the call: HTTP 401: no"}


def test_keeps_the_order_of_the_pairs_and_asks_nothing_for_none() -> None:
    def reply(request: Request) -> Reply:
        better = material(request)["first"]
        slow = verdict(better)
        return Reply(slow.body, headers=slow.headers, delay=0.1 if better == "first" else 0.0)

    sides = ["first", "second", "tie"]
    results, _ = prefer(reply, *[Pair(side, "", "", side, "x") for side in sides])
    assert [(one.id, one.verdict) for one in results] == [(side, side) for side in sides]
    with MessagesServer([status(500)]) as server:
        assert AnthropicJudge(RUBRIC, KEY, base_url=server.url).prefer([]) == []
    assert server.requests == []


def test_what_a_pairwise_judge_is() -> None:
    assert isinstance(AnthropicJudge(RUBRIC, KEY), PairwiseJudge)
    assert not isinstance(RUBRIC, PairwiseJudge)
