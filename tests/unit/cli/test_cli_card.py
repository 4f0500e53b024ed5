"""`harness card`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import promoted
import pytest
import report_runs

from harness.report import card_md

Harness = Callable[..., tuple[int, str, str]]
RUN = report_runs.run()
TWO = dataclasses.replace(
    report_runs.run(report_runs.recipe(), report_runs.recipe(name="tickets", gates=())), run_id="20261124-090000-7"
)


@pytest.mark.parametrize("named", ["20261123-140712-a4f1", "20261123", "latest"])
def test_each_way_to_name_a_run(project: Path, harness: Harness, named: str) -> None:
    promoted.record(project / ".harness")
    path = "reports/20261123-140712-a4f1/invoices/README.md"
    assert harness("card", named) == (0, f"{path}\n", "")
    assert (project / path).read_text(encoding="utf-8") == card_md(RUN, "invoices")


def test_options(project: Path, harness: Harness, tmp_path: Path) -> None:
    promoted.record(tmp_path / "store", TWO)
    (project / "card.md").write_text("old")
    options = ["--recipe", "tickets", "--license", "mit", "--output", "card.md", "--store", str(tmp_path / "store")]
    assert harness("card", "latest", *options) == (0, "card.md\n", "")
    assert (project / "card.md").read_text(encoding="utf-8") == card_md(TWO, "tickets", license="mit")
    mask = os.umask(0)
    os.umask(mask)
    assert (project / "card.md").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_promoted_adapter_keeps_its_files(project: Path, harness: Harness) -> None:
    store = project / ".harness"
    promoted.promote(store, promoted.record(store))
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert harness("card", "latest")[0] == 0
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("latest",), 1, "run 20261124-090000-7 has 2 recipes; choose one with --recipe: invoices, tickets"),
        (("latest", "--recipe", "a"), 1, "run 20261124-090000-7 has no recipe 'a'; it has: invoices, tickets"),
        (("2026x", "--recipe", "invoices"), 1, "there is no run '2026x'"),
        (("latest", "--recipe", "invoices", "--output", "fixtures"), 2, "fixtures: is a folder; name a file, such as "),
        (("latest", "--recipe", "invoices", "--output", "no/README.md"), 1, "No such file or directory"),
        (("latest", "--recipe", "invoices", "--license", "GPL v3"), 1, "the license must be an identifier of the hub"),
        (("latest", "--store", "elsewhere"), 1, "no run is recorded there"),
    ],
)
def test_what_cannot_be(project: Path, harness: Harness, arguments: tuple[str, ...], code: int, complaint: str) -> None:
    promoted.record(project / ".harness", TWO)
    found, out, err = harness("card", *arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert complaint in err


def test_a_record_that_was_changed_has_no_card(project: Path, harness: Harness) -> None:
    promoted.record(project / ".harness")
    file = project / ".harness" / "runs" / RUN.run_id / "report.json"
    file.write_text(file.read_text().replace("0.912", "0.999"))
    code, out, err = harness("card", "latest")
    assert (code, out) == (1, "")
    assert "was changed after the run" in err
