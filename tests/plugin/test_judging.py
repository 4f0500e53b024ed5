"""A judged gate in a run of pytest, with a judge on loopback and no model: the answers are the suite's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from messages_server import MessagesServer, Reply, graded, status

KEY = "sk-ant-test-0123456789"
SUITE = """\
import pytest
from harness.records import Outputs

pytestmark = pytest.mark.recipes("animals")

def test_judged(recipe_run, gate):
    test = recipe_run.splits.test
    texts = tuple(f"answer {k}" for k in range(len(test)))
    recipe_run.outputs["base"] = Outputs("base", tuple(e.id for e in test), texts)
    gate(recipe_run.judge().score, view="base", at_least=3.0)
"""
RUBRIC = """\
name: animals
task: The assistant says what a thing is.
criteria:
  - {name: short, weight: 1.0, anchors: {1: long, 2: rather long, 3: a line, 4: some words, 5: one word}}
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    model = pytester.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    tiny.save_project(pytester.path, model, suite=SUITE)
    rubrics = pytester.path / "fixtures" / "rubrics"
    rubrics.mkdir()
    (rubrics / "animals.yaml").write_text(RUBRIC)
    return pytester.path


def run(pytester: pytest.Pytester, server: MessagesServer, *options: str, **ini: str) -> pytest.RunResult:
    values = {"judge_base_url": server.url, "judge_concurrency": "4", "judge_call_seconds": "2", **ini}
    lines = "".join(f"harness_{name} = {value}\n" for name, value in values.items())
    pytester.makeini(f"[pytest]\naddopts = -p no:cacheprovider\n{lines}")
    return pytester.runpytest_inprocess("suites", *options)


def report(project: Path) -> dict[str, Any]:
    (recipe,) = json.loads((project / "reports" / "latest" / "report.json").read_text())["recipes"]
    found: dict[str, Any] = recipe
    return found


def test_a_judged_gate_says_what_it_took_and_the_second_run_asks_nothing(
    project: Path, pytester: pytest.Pytester
) -> None:
    with MessagesServer([graded({"short": 4})]) as server:
        result = run(pytester, server, "--harness-judge-budget=5")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            [
                "judge claude-sonnet-5-5: 24 answers to grade, about * tokens in and 6,000 out, $*",
                "animals: judge anthropic claude-sonnet-5-5 at 127.0.0.1:*: 24 graded, 0 known from before; 24 calls, "
                "240 tokens in, 480 out; $0.0053 of $5.00",
            ]
        )
        first = report(project)
        run(pytester, server).assert_outcomes(passed=1)
        assert len(server.requests) == 24
    # 24 calls of 10 tokens in at $2 and 20 out at $10 a million.
    assert first["judging"]["cost_usd"] == pytest.approx(24 * 220e-6)
    assert (first["judging"]["graded"], first["judging"]["from_cache"], first["judging"]["budget_usd"]) == (24, 0, 5.0)
    again = report(project)["judging"]
    assert (again["graded"], again["from_cache"], again["calls"], again["cost_usd"]) == (0, 24, 0, 0.0)
    html = (project / "reports" / "latest" / "report.html").read_text()
    assert "0 graded, 24 known from before" in html
    summary = (project / "reports" / "latest" / "summary.md").read_text()
    assert "- Judging: anthropic claude-sonnet-5-5 at 127.0.0.1" in summary


def test_a_budget_that_is_reached_makes_the_gate_incomplete(project: Path, pytester: pytest.Pytester) -> None:
    # A call costs 0.02 USD, and at most 0.041 for its reply and some 0.01 for its prompt: a fourth does not fit.
    usage = {"input_tokens": 10, "output_tokens": 2_000}
    with MessagesServer([graded({"short": 4}, usage=usage)]) as server:
        result = run(pytester, server, "--harness-judge-budget=0.10", judge_concurrency="1")
        assert len(server.requests) == 3
    result.assert_outcomes(failed=1)
    (gate,) = report(project)["gates"]
    assert gate["outcome"] == "incomplete"
    assert "the judge's budget of $0.10 does not allow another call" in gate["reason"]
    judging = report(project)["judging"]
    assert (judging["graded"], judging["unscored"]) == (3, 21)
    assert judging["cost_usd"] == pytest.approx(3 * 0.02002)


def test_an_outage_makes_the_gate_incomplete(project: Path, pytester: pytest.Pytester) -> None:
    with MessagesServer([graded({"short": 4}), status(401, "authentication_error", f"invalid key {KEY}")]) as server:
        result = run(pytester, server, judge_concurrency="1")
        assert len(server.requests) == 2
    result.assert_outcomes(failed=1)
    (gate,) = report(project)["gates"]
    assert gate["outcome"] == "incomplete"
    said = "23 of 24 examples have no score"
    assert said in gate["reason"]
    assert "the judge's API refused the call: HTTP 401: invalid key <secret>" in gate["reason"]


def test_a_panel_of_two_models(project: Path, pytester: pytest.Pytester) -> None:
    def reply(request: Any) -> Reply:
        model = request.body["model"]
        return graded({"short": 4 if "opus" in model else 2}, model=model)

    with MessagesServer(reply) as server:
        choice = "anthropic:claude-opus-5-5, anthropic:claude-haiku-5-5"
        run(pytester, server, f"--harness-judge={choice}", judge_panel="mean").assert_outcomes(passed=1)
        assert len(server.requests) == 48
    recipe = report(project)
    (gate,) = recipe["gates"]
    assert gate["value"] == 3.0
    assert "panel of 2 judges by mean, two of them agree on 0% of the grades (mean distance 2.00)" in gate["note"]
    assert len(recipe["judging"]["judges"]) == 2


def test_the_key_is_in_no_output_with_locals_and_in_no_file(project: Path, pytester: pytest.Pytester) -> None:
    """A fault in the judging, so that pytest prints every frame with its locals; and a server that quotes the key."""
    (project / "suites" / "conftest.py").write_text(
        "import pytest\n"
        "from harness.judging import anthropic_judge\n"
        "real = anthropic_judge.read_content\n"
        "def read_content(reply, model, max_tokens):\n"
        "    if 'fault' in str(reply):\n"
        "        raise RuntimeError('a fault')\n"
        "    return real(reply, model, max_tokens)\n"
        "@pytest.fixture(autouse=True)\n"
        "def faulty(monkeypatch):\n"
        "    monkeypatch.setattr(anthropic_judge, 'read_content', read_content)\n"
    )
    replies = [graded({"short": 4}, f"key {KEY}"), status(400, said=KEY), graded({"short": 4}, "fault")]
    with MessagesServer(replies) as server:
        result = run(pytester, server, "--showlocals", "-vv", "--log-level=DEBUG", judge_concurrency="1")
        assert KEY in str(server.requests[0].headers)
    result.assert_outcomes(failed=1)
    text = result.stdout.str() + result.stderr.str()
    assert "RuntimeError: a fault" in text
    assert "params     = " in text, "locals are printed"
    assert "DEBUG" in text, "so is the log"
    assert KEY not in text
    written = [file for part in ("reports", ".harness") for file in (project / part).rglob("*") if file.is_file()]
    assert any(file.name == "grades.sqlite" for file in written)
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    ("options", "ini", "said"),
    [
        (["--harness-judge=claude"], {}, "--harness-judge must be among anthropic, batch, stand-in, got 'claude'*"),
        ([], {"judge_budget": "much"}, "harness_judge_budget must be a number of at least 0, got 'much'"),
        (["--harness-judge=stand-in:x"], {}, "--harness-judge: the stand-in takes no model, got 'stand-in:x'"),
        (["--harness-judge-base-url=ftp://x"], {}, "--harness-judge-base-url: the judge's base URL must be like *"),
    ],
)
def test_a_wrong_setting_is_one_line(
    project: Path, pytester: pytest.Pytester, options: list[str], ini: dict[str, str], said: str
) -> None:
    with MessagesServer([status(500)]) as server:
        result = run(pytester, server, *options, **ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_a_variable_chooses_the_judge_and_never_its_address(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        MessagesServer([graded({"short": 4}, model="claude-opus-5-5")]) as server,
        MessagesServer([status(500)]) as other,
    ):
        monkeypatch.setenv("HARNESS_JUDGE_MODEL", "claude-opus-5-5")
        monkeypatch.setenv("HARNESS_JUDGE_BASE_URL", other.url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", other.url)
        run(pytester, server).assert_outcomes(passed=1)
        assert {request.body["model"] for request in server.requests} == {"claude-opus-5-5"}
        assert other.requests == []


def test_a_budget_for_a_model_without_a_price_is_an_error(project: Path, pytester: pytest.Pytester) -> None:
    with MessagesServer([graded({"short": 4})]) as server:
        result = run(pytester, server, "--harness-judge-budget=1", "--harness-judge-model=qwen")
        assert server.requests == []
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "harness_judge_budget is set, and the price of the model 'qwen' is not known" in result.stdout.str()
    (problem,) = [report(project)["problem"]]
    assert "the price of the model 'qwen' is not known" in problem


def test_a_judge_that_cannot_be_asked_is_named_before_anything_is_trained(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    (project / "suites" / "test_animals.py").write_text(
        "import pytest\n"
        'pytestmark = pytest.mark.recipes("animals")\n'
        "def test_trained(adapter): pass\n"
        "def test_judged(judge, gate): gate(judge.score, at_least=3.0)\n"
    )
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    result = pytester.runpytest_inprocess("suites", "--harness-judge=anthropic")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*the judge anthropic needs a key: set ANTHROPIC_API_KEY*"])
    result.stdout.no_fnmatch_line("*fine-tuning*")
    # Without a test that needs the judge, training begins, and finds that the base model is none.
    result = pytester.runpytest_inprocess("suites", "--harness-judge=anthropic", "-k", "trained")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fine-tuning*"])
    result.stdout.no_fnmatch_line("*needs a key*")
