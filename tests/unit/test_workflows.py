"""The workflows hold to what keeps a runner and its secrets safe."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ZIZMOR = Path(sysconfig.get_path("scripts")) / "zizmor"
FORK_GUARD = "github.event.pull_request.head.repo.full_name == github.repository"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
PINNED_LINE = re.compile(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

each_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)


def parsed(file: Path) -> dict[Any, Any]:
    """The workflow; its `on` is the key True, as YAML 1.1 has it."""
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(workflow, dict)
    return workflow


def steps(workflow: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def audit(inputs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ZIZMOR), "--offline", "--persona", "auditor", "--no-progress", "--quiet", str(inputs)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_workflows_are_there() -> None:
    assert {file.name for file in WORKFLOWS} >= {"ci.yml", "gate.yml"}


def test_zizmor_finds_nothing() -> None:
    done = audit(ROOT / ".github" / "workflows")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("rule", "pattern", "replacement"),
    [
        ("unpinned-uses", r"@[0-9a-f]{40} # v[\d.]+", "@v6"),
        ("artipacked", "persist-credentials: false", "persist-credentials: true"),
        ("excessive-permissions", r"permissions: \{\}", "permissions: write-all"),
        ("self-hosted-runner", r"zizmor: ignore\[self-hosted-runner\]", ""),
        ("template-injection", r"run: make install", "run: make ${{ github.head_ref }}"),
    ],
)
def test_zizmor_would_find(tmp_path: Path, rule: str, pattern: str, replacement: str) -> None:
    text = (ROOT / ".github" / "workflows" / "gate.yml").read_text(encoding="utf-8")
    broken = re.sub(pattern, replacement, text)
    assert broken != text
    file = tmp_path / "gate.yml"
    file.write_text(broken, encoding="utf-8")

    done = audit(file)

    assert done.returncode != 0
    assert f"[{rule}]" in done.stdout, done.stdout + done.stderr


@each_workflow
def test_nothing_is_permitted_unless_a_job_says_so(file: Path) -> None:
    workflow = parsed(file)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}, name


@each_workflow
def test_every_action_is_pinned_to_a_commit(file: Path) -> None:
    actions = [step["uses"] for step in steps(parsed(file)) if "uses" in step]
    assert actions
    assert [action for action in actions if not PINNED.fullmatch(action)] == []
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert len(lines) == len(actions)
    assert [line for line in lines if not PINNED_LINE.fullmatch(line.removeprefix("- "))] == []


@each_workflow
def test_every_job_has_a_time_limit(file: Path) -> None:
    for name, job in parsed(file)["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 120, name


@each_workflow
def test_checkouts_leave_no_credentials(file: Path) -> None:
    checkouts = [step for step in steps(parsed(file)) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    for step in checkouts:
        assert step["with"]["persist-credentials"] is False


@each_workflow
def test_untrusted_code_gets_no_privileged_trigger(file: Path) -> None:
    triggers = set(parsed(file)[True])
    assert triggers
    assert triggers.isdisjoint({"pull_request_target", "workflow_run", "issue_comment"})


@each_workflow
def test_scripts_hold_no_expressions(file: Path) -> None:
    scripts = [step["run"] for step in steps(parsed(file)) if "run" in step]
    assert scripts
    assert [script for script in scripts if "${{" in script] == []


@each_workflow
def test_a_secret_is_seen_by_one_step(file: Path) -> None:
    workflow = parsed(file)
    holders = [step for step in steps(workflow) if "secrets." in str(step)]
    assert str(workflow).count("secrets.") == len(holders)
    assert all("secrets." in str(step["env"]) for step in holders)


def test_own_machines_run_no_code_of_forks() -> None:
    guarded = 0
    for file in WORKFLOWS:
        for name, job in parsed(file)["jobs"].items():
            if "self-hosted" in job["runs-on"]:
                assert FORK_GUARD in job["if"], f"{file.name}: {name}"
                guarded += 1
    assert guarded == 1


def test_the_gate_runs_where_its_inputs_change() -> None:
    triggers = parsed(ROOT / ".github" / "workflows" / "gate.yml")[True]
    assert set(triggers) == {"push", "pull_request", "workflow_dispatch"}
    folders = ("capability", "data", "recipes", "rubrics")
    inputs = {"suites/**", ".github/workflows/gate.yml", *(f"fixtures/{folder}/**" for folder in folders)}
    for event in ("push", "pull_request"):
        assert set(triggers[event]["paths"]) >= inputs


def script_of(name: str) -> str:
    (step,) = [step for step in steps(parsed(ROOT / ".github" / "workflows" / "gate.yml")) if step["name"] == name]
    assert "!cancelled()" in step["if"], "the summary has to be shown after a failure too"
    return str(step["run"])


def test_the_summary_step_shows_the_newest_report(tmp_path: Path) -> None:
    run = tmp_path / "reports" / "20261123-101500"
    run.mkdir(parents=True)
    for name in ("report.html", "report.json", "summary.md"):
        (run / name).write_text(f"content of {name}\n", encoding="utf-8")
    (tmp_path / "reports" / "latest").symlink_to(run.name)

    assert shown_by(script_of("Show the summary"), tmp_path) == "content of summary.md\n"
    kept = {file.name for file in (tmp_path / "gate-report").iterdir()}
    assert kept == {"report.html", "report.json", "summary.md"}


def test_the_summary_step_says_when_there_is_no_report(tmp_path: Path) -> None:
    assert shown_by(script_of("Show the summary"), tmp_path).startswith("The gate wrote no report.")


def shown_by(script: str, directory: Path) -> str:
    bash = shutil.which("bash")
    assert bash
    summary = directory / "step_summary.md"
    subprocess.run(
        [bash, "-e", "-o", "pipefail", "-c", script],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(summary)},
        check=True,
        timeout=300,
    )
    return summary.read_text(encoding="utf-8")
