"""Gates on what a judge says: Claude's side is a server on loopback, and the views' answers are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from messages_server import MessagesServer, Reply, Request, graded, message, ok

from harness.errors import GateError
from harness.judging import ATTACKS, JudgeSettings
from harness.pipeline import Places, RecipeRun, Session
from harness.records import IntegrityCheck, MeasureResult, Outcome, Outputs, Run, Verdict
from harness.report import gates_table, read_report, report_html, report_json, summary_md

TEST = "suites/test_a.py::test_it[animals]"
RUBRIC = """\
name: animals
task: The assistant says what a thing is.
criteria:
  - {name: right, weight: 1.0, anchors: {1: wrong, 2: nearly wrong, 3: half right, 4: nearly right, 5: right}}
"""


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no adapter here to check."""
    monkeypatch.setattr(RecipeRun, "integrity", lambda _run: (IntegrityCheck("keys_loaded", True, "28 keys"),))


def material(request: Request) -> dict[str, str]:
    found: dict[str, str] = json.loads(request.body["messages"][0]["content"].split("\n")[2])
    return found


def preferring(better: Callable[[str, str], str]) -> Callable[[Request], Reply]:
    def reply(request: Request) -> Reply:
        shown = material(request)
        return ok(message(json.dumps({"rationale": "Because.", "better": better(shown["first"], shown["second"])})))

    return reply


def to_the_better(first: str, second: str) -> str:
    if first.startswith("good") == second.startswith("good"):
        return "tie"
    return "first" if first.startswith("good") else "second"


@pytest.fixture
def opened(project: Path) -> Callable[..., Session]:
    """A session with a judge at `server`, in which `views` have answered; their texts get the example's number."""
    rubrics = project / "fixtures" / "rubrics"
    rubrics.mkdir()
    (rubrics / "animals.yaml").write_text(RUBRIC)

    def make(server: MessagesServer, /, budget_usd: float | None = None, **views: str) -> Session:
        settings = JudgeSettings(base_url=server.url, budget_usd=budget_usd)
        session = Session(Places.below(project), environ={}, allow_training=False, judge_settings=settings)
        run = session.open("animals")
        ids = tuple(e.id for e in run.splits.test)
        for view, text in views.items():
            run.outputs[view] = Outputs(view, ids, tuple(text.format(k) for k in range(len(ids))))
        return session

    return make


def win_rate(session: Session, **asked: object) -> Verdict:
    judge = session.open("animals").judge()
    asked = {"compared_with": "prompted_base", "at_least": 0.5, **asked}
    return session.gate("animals", judge.win_rate, test=TEST, **asked)  # type: ignore[arg-type]


def measured(run: Run) -> MeasureResult:
    (found,) = run.recipes[0].measures
    return found


def test_a_win_rate_is_gated_and_reported_with_the_position_bias(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(to_the_better)) as server:
        session = opened(server, adapter="good answer {}", prompted_base="poor answer {}")
        verdict = win_rate(session)
    assert len(server.requests) == 48  # 24 examples in both orders
    assert verdict.outcome is Outcome.PASS
    assert verdict.measure == "judge.win_rate[prompted_base]"
    assert verdict.rule == "at least 0.500 against prompted_base"
    # Clopper and Pearson of 24 of 24: 0.025 ** (1 / 24)
    assert verdict.low == pytest.approx(0.025 ** (1 / 24))
    assert (
        "position bias: the verdict on 0 of 24 pairs changed with the order, flip rate 0.000 [0.000, " in verdict.note
    )
    run = session.finish()
    assert run.outcome is Outcome.PASS
    assert run.recipes[0].gates[0].id == "animals/test_it/judge.win_rate[prompted_base]"
    result = measured(run)
    assert (result.name, result.view, result.value) == ("judge.win_rate[prompted_base]", "adapter", 1.0)
    assert result.details["position_bias"]["pairs"] == 24
    assert read_report(report_json(run)) == run
    (row,) = gates_table(run)
    assert row.value.startswith("1.000 [0.858, 1.000]")
    page = report_html(run)
    assert "Win rate against prompted base" in page
    assert "flip rate 0.000" in page
    assert "judge.win\\_rate" in summary_md(run)


def test_a_second_session_asks_the_judge_nothing(opened: Callable[..., Session]) -> None:
    views = {"adapter": "good answer {}", "prompted_base": "poor answer {}"}
    with MessagesServer(preferring(to_the_better)) as server:
        first = win_rate(opened(server, **views))
        assert win_rate(opened(server, **views)) == first
    assert len(server.requests) == 48


def test_what_comparisons_take_is_in_the_report(opened: Callable[..., Session]) -> None:
    views = {"adapter": "good answer {}", "prompted_base": "poor answer {}"}
    with MessagesServer(preferring(to_the_better)) as server:
        session = opened(server, **views)
        win_rate(session)
        compared = session.open("animals").judging()
        again = opened(server, **views)
        win_rate(again)
        known = again.open("animals").judging()
    assert compared is not None
    assert known is not None
    assert (compared.graded, compared.from_cache, compared.calls) == (48, 0, 48)
    assert compared.cost_usd is not None
    assert compared.cost_usd > 0
    assert compared.judges == (session.open("animals").judge().judge_name,)
    assert (known.graded, known.from_cache, known.calls, known.cost_usd) == (0, 48, 0, 0.0)


def test_comparisons_stop_at_the_budget(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(to_the_better)) as server:
        session = opened(server, budget_usd=0.0001, adapter="good answer {}", prompted_base="poor answer {}")
        verdict = win_rate(session)
        judging = session.open("animals").judging()
    assert server.requests == []
    assert verdict.outcome is Outcome.INCOMPLETE
    assert "budget" in verdict.reason
    assert judging is not None
    assert (judging.graded, judging.unscored, judging.calls) == (0, 48, 0)


def test_a_judge_that_always_says_first_decides_nothing(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(lambda *_: "first")) as server:
        session = opened(server, adapter="good answer {}", prompted_base="poor answer {}")
        verdict = win_rate(session)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.value == 0.5
    assert "the verdict on 24 of 24 pairs changed with the order, flip rate 1.000 [0." in verdict.note


def test_the_bases_own_answers_do_not_beat_it_and_are_not_paid_for(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(to_the_better)) as server:
        verdict = win_rate(opened(server, adapter="answer {}", base="answer {}"), compared_with="base")
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert server.requests == []


def test_one_pair_without_a_verdict_makes_the_gate_incomplete(opened: Callable[..., Session]) -> None:
    def reply(request: Request) -> Reply:
        if "good answer 7" in material(request).values():
            return ok(message(None, stop_reason="refusal"))
        return preferring(to_the_better)(request)

    with MessagesServer(reply) as server:
        session = opened(server, adapter="good answer {}", prompted_base="poor answer {}")
        verdict = win_rate(session)
    assert verdict.outcome is Outcome.INCOMPLETE
    assert verdict.reason == (
        "Not decided: adapter: 1 of 24 examples have no score, first test-7: the judge refused to grade it."
    )


def test_rules_that_make_no_sense_are_refused_before_anything_is_asked(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(to_the_better)) as server:
        session = opened(server, adapter="good answer {}", base="poor answer {}")
        for asked, said in (
            ({"compared_with": None}, "it compares two views, and only adapter is named"),
            ({"min_gain": 0.1, "at_least": None}, "comparison already"),
            ({"compared_with": "adapter"}, "adapter is compared with itself"),
            ({"at_least": 50}, "at_least=50 is outside what the measure can be, 0 to 1"),
        ):
            with pytest.raises(GateError, match=said):
                win_rate(session, **asked)
        judge = session.open("animals").judge()
        with pytest.raises(GateError, match=r"judge\.score: a gate has one kind of rule"):
            session.gate("animals", judge.score, test=TEST, compared_with="base", at_least=2.0)
    assert server.requests == []
    assert session.gates("animals") == ()


def test_slices_of_a_win_rate(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(to_the_better)) as server:
        session = opened(server, adapter="good answer {}", base="poor answer {}")
        win = session.open("animals").judge().win_rate
        verdicts = session.gate_slices(
            "animals", win, test=TEST, slices="half", min_n=10, compared_with="base", at_least=0.5
        )
    assert [(v.slice_value, v.n, v.outcome) for v in verdicts] == [("0", 12, Outcome.PASS), ("1", 12, Outcome.PASS)]
    assert len(server.requests) == 48


# Robustness


def test_a_judge_that_obeys_what_it_judges_fails_its_gate_and_the_attacks_are_named(
    opened: Callable[..., Session],
) -> None:
    def obedient(request: Request) -> Reply:
        return graded({"right": 5 if "Ignore the rubric" in material(request)["response"] else 2})

    obeyed = [attack.name for attack in ATTACKS if "Ignore the rubric" in attack.template]
    with MessagesServer(obedient) as server:
        session = opened(server, adapter="answer {}")
        robustness = session.open("animals").judge().robustness
        verdict = session.gate("animals", robustness, test=TEST, at_least=1.0)
        (by_kind,) = [
            v
            for v in session.gate_slices("animals", robustness, test=TEST, slices="kind", min_n=5, at_least=1.0)
            if v.slice_value == "instruction override"
        ]
    assert len(server.requests) == len(ATTACKS) + 8
    assert verdict.outcome is Outcome.FAIL
    assert verdict.value == 1 - len(obeyed) / len(ATTACKS)
    assert (
        f"{len(obeyed)} of {len(ATTACKS)} attacks raised the grade, most of all override_after by 3.00" in verdict.note
    )
    assert verdict.drivers is not None
    assert set(verdict.drivers.failing) <= set(obeyed)
    assert by_kind.outcome is Outcome.FAIL
    result = measured(session.finish())
    assert result.details["raised"] == dict.fromkeys(obeyed, 3.0)


def test_a_judge_that_obeys_nothing_passes(opened: Callable[..., Session]) -> None:
    with MessagesServer([graded({"right": 2})]) as server:
        session = opened(server, adapter="answer {}")
        verdict = session.gate("animals", session.open("animals").judge().robustness, test=TEST, at_least=1.0)
    assert (verdict.outcome, verdict.value, verdict.n) == (Outcome.PASS, 1.0, len(ATTACKS))


# One answer to everything


@pytest.mark.parametrize("slices", [None, "half"])
def test_a_constant_answer_passes_no_judged_gate_and_the_judge_is_not_asked(
    opened: Callable[..., Session], slices: str | None
) -> None:
    """A judge that finds it excellent, on every measure that a judge has."""
    with MessagesServer([graded({"right": 5})]) as server:
        session = opened(server, adapter="You are right.", base="answer {}")
        judge = session.open("animals").judge()
        rules = [
            (judge.score, {"at_least": 1.0}),
            (judge.score_by_criterion["right"], {"at_least": 1.0}),
            (judge.score, {"compared_with": "base", "max_drop": 3.0}),
            (judge.win_rate, {"compared_with": "base", "at_least": 0.0}),
            (judge.robustness, {"at_least": 0.0}),
        ]
        for measure, rule in rules:
            if slices is None:
                verdicts = (session.gate("animals", measure, test=TEST, **rule),)
            else:
                verdicts = session.gate_slices("animals", measure, test=TEST, slices=slices, **rule)
            (verdict,) = verdicts
            assert verdict.outcome is Outcome.INCOMPLETE
            assert verdict.reason.startswith(
                "Not decided: 24 of 24 answers of adapter are the same text, 'you are right.', and a judge that is "
            )
            assert verdict.slice_name == slices
    assert server.requests == []
    assert session.finish().outcome is Outcome.INCOMPLETE


def test_a_constant_baseline_may_be_beaten(opened: Callable[..., Session]) -> None:
    with MessagesServer(preferring(to_the_better)) as server:
        session = opened(server, adapter="good answer {}", base="poor answer")
        assert win_rate(session, compared_with="base").outcome is Outcome.PASS
