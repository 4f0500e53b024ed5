"""`harness report`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records import GateResult, Outcome, RecipeResult, Run, Verdict
from harness.report import report_html, report_json, summary_md

Harness = Callable[..., tuple[int, str, str]]

VERDICT = Verdict(
    "classification.macro_f1", "adapter", "at least 0.90", Outcome.PASS, "0.912 is at least 0.900", 360, 0.912
)
RECIPE = RecipeResult(
    name="tickets",
    base="smollm2-135m-instruct",
    fingerprint="f" * 64,
    adapter_digest="a" * 64,
    from_store=True,
    training=None,
    measures=(),
    gates=(GateResult("tickets/test_macro_f1/classification.macro_f1", "suites/test_a.py::test_macro_f1", VERDICT),),
)
RUN = Run("20261123-140700-1", Outcome.PASS, "2026-11-23T14:07:00+00:00", 12.5, {}, (RECIPE,))


@pytest.fixture
def add_run(project: Path) -> Callable[..., Path]:
    """add_run(run) -> the folder of a run with nothing but its report.json; latest points to it."""

    def add(run: Run = RUN) -> Path:
        folder = project / "reports" / run.run_id
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(report_json(run), encoding="utf-8")
        latest = project / "reports" / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(run.run_id, target_is_directory=True)
        return folder

    return add


AddRun = Callable[..., Path]
PATHS = "reports/20261123-140700-1/report.html\nreports/20261123-140700-1/summary.md\n"


@pytest.mark.parametrize(
    "named",
    [
        "20261123-140700-1",
        "latest",
        "reports/20261123-140700-1",
        "reports/20261123-140700-1/",
        "reports/20261123-140700-1/report.json",
        "reports/latest",
    ],
)
def test_each_way_to_name_a_run(add_run: AddRun, harness: Harness, named: str) -> None:
    folder = add_run()
    assert harness("report", named) == (0, PATHS, "")
    assert (folder / "report.html").read_text(encoding="utf-8") == report_html(RUN)
    assert (folder / "summary.md").read_text(encoding="utf-8") == summary_md(RUN)
    assert sorted(os.listdir(folder)) == ["report.html", "report.json", "summary.md"]


@pytest.mark.parametrize(
    ("form", "written"),
    [("html", ["report.html"]), ("md", ["summary.md"]), ("all", ["report.html", "summary.md"])],
)
def test_formats(add_run: AddRun, harness: Harness, form: str, written: list[str]) -> None:
    folder = add_run()
    code, out, _ = harness("report", "latest", "--format", form)
    assert code == 0
    assert [line.rpartition("/")[2] for line in out.splitlines()] == written
    assert sorted(set(os.listdir(folder)) - {"report.json"}) == written


def test_latest_is_the_run_it_points_to(add_run: AddRun, harness: Harness) -> None:
    add_run()
    add_run(dataclasses.replace(RUN, run_id="20261124-090000-7"))
    assert harness("report", "latest", "--format", "md")[1] == "reports/20261124-090000-7/summary.md\n"


def test_reports_are_replaced(add_run: AddRun, harness: Harness) -> None:
    folder = add_run()
    (folder / "report.html").write_text("old")
    (folder / "report.json").chmod(0o640)
    harness("report", "latest")
    assert (folder / "report.html").read_text(encoding="utf-8") == report_html(RUN)
    assert (folder / "report.html").stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_the_old_report(
    add_run: AddRun, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_run()
    (folder / "report.html").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(folder / "report.html"))

    monkeypatch.setattr("os.replace", full)
    code, out, err = harness("report", "latest")
    assert (code, out) == (1, "")
    assert err == (f"error: {folder / 'report.html'}: No space left on device; check the place and its permissions\n")
    assert (folder / "report.html").read_text() == "old"
    assert sorted(os.listdir(folder)) == ["report.html", "report.json"]


def test_the_reports_folder_of_the_project(
    project: Path, add_run: AddRun, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run()
    (project / "reports").rename(project / "kept")
    assert harness("report", "latest")[0] == 2
    (project / "pytest.ini").write_text("[pytest]\nharness_report_dir = kept\n")
    assert harness("report", "latest", "--format", "md")[1] == "kept/20261123-140700-1/summary.md\n"
    monkeypatch.setenv("HARNESS_REPORT_DIR", "nowhere")
    assert harness("report", "latest")[0] == 2


def test_a_run_is_not_hidden_by_a_file_of_its_name(project: Path, add_run: AddRun, harness: Harness) -> None:
    add_run()
    (project / "latest").write_text("notes")
    assert harness("report", "latest") == (0, PATHS, "")


def test_an_unknown_run(add_run: AddRun, harness: Harness) -> None:
    for second in range(4):
        add_run(dataclasses.replace(RUN, run_id=f"20261123-14070{second}-1"))
    assert harness("report", "20261123") == (
        2,
        "",
        "error: there is no run '20261123' in reports; name its folder, or one of the newest: "
        "20261123-140703-1, 20261123-140702-1, 20261123-140701-1\n",
    )


@pytest.mark.parametrize("named", ["latest", "..", ""])
def test_no_run_yet(project: Path, harness: Harness, named: str) -> None:
    code, out, err = harness("report", named)
    assert (code, out, err.count("\n")) == (2, "", 1)
    if named == "latest":
        assert err == "error: there is no run 'latest', and no report in reports; run `pytest suites/` first\n"


def test_a_folder_without_a_report(project: Path, harness: Harness) -> None:
    assert harness("report", "fixtures/data") == (
        2,
        "",
        "error: fixtures/data: has no report.json; name the folder of a run, e.g. one below reports\n",
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "report.json is not JSON"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b'{"schema_version": 99}', "report.json has schema_version 99"),
    ],
)
def test_what_is_no_report(add_run: AddRun, harness: Harness, content: bytes, problem: str) -> None:
    folder = add_run()
    (folder / "report.json").write_bytes(content)
    code, out, err = harness("report", "latest")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: reports/20261123-140700-1/report.json: {problem}")
    assert err.count("\n") == 1
    assert os.listdir(folder) == ["report.json"]
