"""The record of a run: what is kept, what is found again, and what is refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.records import Scores
from harness.store import StoredRun, content_key, keep_run, list_runs, read_run, read_scores, scores_json

FIRST, SECOND, THIRD = "20261123-140700-4711", "20261123-140701-4711", "20261124-090000-12"
IDS = ("a", "b", "ü")
SCORES = {
    "tickets": (
        Scores(
            measure="classification.macro_f1",
            view="adapter",
            ids=IDS,
            values=(1.0, 0.0, 1.0),
            n_expected=3,
            statistic="macro_f1",
            truth=("x", "y", "x"),
            predicted=("x", "x", "x"),
            labels=("x", "y"),
            groups=("1", "1", "2"),
            slices={"plan": ("free", "paid", "free")},
            note="a caveat",
            chance=0.5,
        ),
        Scores("judge.score", "base", IDS[:2], (1.0, 4.5), 3, bounds=(1.0, 5.0), unscored={"ü": "no answer"}),
    ),
    "invoices": (),
}


def keep(root: Path, run_id: str = FIRST, report: str = "{}\n") -> Path:
    return keep_run(root, run_id, report, SCORES)


def left_over(root: Path) -> list[Path]:
    return [path for path in (root / "tmp").iterdir() if path.suffix != ".lock"]


def test_a_run_is_found_as_it_was_kept(tmp_path: Path) -> None:
    folder = keep(tmp_path, report='{"name": "ü"}\n')
    assert folder == tmp_path / "runs" / FIRST
    run = read_run(tmp_path, FIRST)
    assert (run.run_id, run.folder, run.report_text) == (FIRST, folder, '{"name": "ü"}\n')
    assert run.scores == SCORES
    assert sorted(file.name for file in folder.iterdir()) == ["manifest.json", "report.json", "scores.json"]
    assert not left_over(tmp_path)


def test_the_digest_is_of_the_id_and_both_files(tmp_path: Path) -> None:
    manifest = json.loads((keep(tmp_path) / "manifest.json").read_text())
    assert read_run(tmp_path, FIRST).digest == content_key({"run_id": FIRST, "files": manifest["files"]})
    digests = set()
    for k, (run_id, report, scores) in enumerate([(FIRST, "1", SCORES), (FIRST, "2", SCORES), (FIRST, "1", {})]):
        keep_run(tmp_path / str(k), run_id, report, scores)
        digests.add(read_run(tmp_path / str(k), run_id).digest)
    assert len(digests) == 3


def test_the_folder_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        assert stat.S_IMODE(keep(tmp_path).stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_runs_are_listed_newest_first_and_nothing_else_is(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == ()
    for run_id in (SECOND, THIRD, FIRST):
        keep(tmp_path, run_id)
    shutil.copytree(tmp_path / "runs" / FIRST, tmp_path / "runs" / f"{THIRD}.copy")
    (tmp_path / "runs" / "20270101-000000-1").write_text("a file")
    (tmp_path / "runs" / "notes").mkdir()
    assert list_runs(tmp_path) == (THIRD, SECOND, FIRST)
    assert read_run(tmp_path, "latest").run_id == THIRD


def test_the_beginning_of_an_id_is_enough_where_it_names_one(tmp_path: Path) -> None:
    longer = f"{FIRST}1"
    for run_id in (FIRST, longer, THIRD):
        keep(tmp_path, run_id)
    assert read_run(tmp_path, "20261124").run_id == THIRD
    assert read_run(tmp_path, FIRST).run_id == FIRST  # which is also how another begins
    with pytest.raises(StoreError, match=rf"2 runs begin with '20261123', the newest {longer}, {FIRST}; write more"):
        read_run(tmp_path, "20261123")


@pytest.mark.parametrize("named", ["", "2025", "../runs", "Latest"])
def test_no_such_run_is_one_line_with_the_newest(tmp_path: Path, named: str) -> None:
    keep(tmp_path)
    with pytest.raises(StoreError, match=rf"there is no run '{named}'; the newest are {FIRST}. `harness runs` lists"):
        read_run(tmp_path, named)


def test_no_run_at_all_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no run is recorded there; run `pytest suites/` first"):
        read_run(tmp_path, "latest")


@pytest.mark.parametrize("name", ["report.json", "scores.json"])
@pytest.mark.parametrize("change", ["flip", "append", "delete"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str, change: str) -> None:
    file = keep(tmp_path) / name
    content = bytearray(file.read_bytes())
    if change == "delete":
        file.unlink()
    elif change == "append":
        file.write_bytes(content + b" ")
    else:
        content[0] ^= 1
        file.write_bytes(content)
    said = "cannot be read" if change == "delete" else "its sha256 is not that of the run's manifest"
    with pytest.raises(StoreError, match=rf"{name}: {said}.*run the suites again$"):
        read_run(tmp_path, FIRST)


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{}", "[" * 100_000, '{"form": 1}', '{"form": 1, "run_id": "x", "files": []}'],
    ids=["empty", "list", "object", "deep", "no files", "other run"],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, manifest: str) -> None:
    (keep(tmp_path) / "manifest.json").write_text(manifest)
    with pytest.raises(StoreError, match=r"manifest.json: is not the manifest of this run .* run the suites again$"):
        read_run(tmp_path, FIRST)


def test_a_record_under_another_runs_name_is_refused(tmp_path: Path) -> None:
    keep(tmp_path)
    (tmp_path / "runs" / FIRST).rename(tmp_path / "runs" / THIRD)
    with pytest.raises(StoreError, match="is not the manifest of this run"):
        read_run(tmp_path, THIRD)


def test_a_record_is_never_replaced(tmp_path: Path) -> None:
    keep(tmp_path)
    with pytest.raises(StoreError, match=rf"{FIRST}: there is a run of this id already.*; run again$"):
        keep(tmp_path, report="better\n")
    assert read_run(tmp_path, FIRST).report_text == "{}\n"
    assert not left_over(tmp_path)


@pytest.mark.parametrize("run_id", ["latest", "..", "../20261123-140700-1", "20261123-140700-", "", ".hidden"])
def test_an_id_that_is_none_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(StoreError, match="cannot be the id of a run; an id is time and process"):
        keep(tmp_path, run_id)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_record(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    with file_size_limit(4_000), pytest.raises(StoreError, match=r"cannot be written .File too large; .* Make room"):
        keep(tmp_path, report="x" * 20_000)
    assert list_runs(tmp_path) == ()
    assert not left_over(tmp_path)


def test_a_store_without_rights_is_one_line(read_only_folder: Path) -> None:
    with pytest.raises(StoreError, match=r"Permission denied.*choose another (folder|one) with --harness-store\.$"):
        keep(read_only_folder / "store")


def test_runs_without_rights_are_one_line(read_only_folder: Path) -> None:
    """The store can be written, and the folder of the runs cannot."""
    privileged = os.getuid() == 0
    if privileged:
        os.seteuid(0)
    read_only_folder.chmod(0o777)
    (read_only_folder / "runs").mkdir(mode=0o555)
    if privileged:
        os.seteuid(65534)
    with pytest.raises(StoreError, match=rf"{FIRST}: the run cannot be recorded \(Permission denied\)\. Make the"):
        keep(read_only_folder)


def test_scores_come_back_from_their_text() -> None:
    assert read_scores(scores_json(SCORES)) == SCORES
    assert list(read_scores(scores_json(SCORES))) == ["tickets", "invoices"]


def test_people_seeds_and_the_other_view_come_back_too() -> None:
    one = Scores(
        "judge.score",
        "adapter",
        ("a", "b"),
        (4.0, 2.0),
        2,
        bounds=(1.0, 5.0),
        human=(5.0, None),
        compared_with="base",
        details={"flips": 1},
    )
    both = replace(one, replicates=(one, replace(one, values=(3.0, 3.0), human=(None, None))))
    assert read_scores(scores_json({"r": [both]})) == {"r": (both,)}


def test_columns_that_measures_share_are_written_once() -> None:
    one = Scores("m", "adapter", tuple(f"example-{k}" for k in range(100)), (1.0,) * 100, 100)
    shared = len(scores_json({"r": [one] * 10}))
    assert shared < 1.5 * len(scores_json({"r": [one]})) + 10 * 300


def test_a_value_that_is_not_finite_stays_missing() -> None:
    odd = Scores("m", "base", ("a", "b"), (math.nan, math.inf), 2, bounds=(-math.inf, math.inf))
    text = scores_json({"r": [odd]})
    assert "NaN" not in text
    assert "Infinity" not in text
    (found,) = read_scores(text)["r"]
    assert all(math.isnan(value) for value in found.values)
    assert found.bounds == odd.bounds
    assert "not a finite number" in str(found.problem())


@pytest.mark.parametrize("ids", [(b"a", b"b"), ({1}, {2}), (["a"], ["b"])], ids=["bytes", "sets", "lists"])
def test_scores_that_are_no_json_are_refused(ids: tuple[str, str]) -> None:
    odd = Scores("own", "adapter", ids, (1.0, 0.0), 2)
    with pytest.raises(StoreError, match=r"scores cannot be written as JSON \(.*\); give measures text and plain numb"):
        scores_json({"r": [odd]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no scores as the harness writes them"),
        ("[1]", "no scores as the harness writes them"),
        ('{"form": 1, "columns": [[]], "recipes": {"r": [{}]}}', "no scores as the harness writes them"),
        ('{"form": 2}', "of form 2, this harness reads 1; use the version"),
    ],
)
def test_other_text_is_no_scores(text: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        read_scores(text)


def test_scores_of_another_version_are_told_with_their_file(tmp_path: Path) -> None:
    run = StoredRun(FIRST, tmp_path, "{}", '{"form": 2}', "0" * 64)
    with pytest.raises(StoreError, match=rf"{tmp_path}/scores.json: the scores are of form 2"):
        run.scores  # noqa: B018
