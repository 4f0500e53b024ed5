"""The index says what the records say, whatever happens to it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import Point, RecipeEntry, RunEntry, RunIndex, StoredRun, ValueEntry, keep_run, read_run

IDS = ("20261120-090000-1", "20261121-090000-1", "20261122-090000-1")
TRAINED = {IDS[0]: 0.5, IDS[1]: 0.75, IDS[2]: None}


class Reading:
    """What the index is told of a run, and how often it asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, stored: StoredRun) -> RunEntry:
        self.asked.append(stored.run_id)
        value = TRAINED.get(stored.run_id, 0.9)
        values = (
            ValueEntry("measure", "accuracy", "adapter", value, value, value, 10),
            ValueEntry("gate", "tickets/t/accuracy", "adapter", value, None, None, 10, "pass", 0.4),
        )
        tickets = RecipeEntry("tickets", "pass", "ad", 1, 1, values)
        more = (RecipeEntry("animals", "fail", None, 2, 0),) if stored.run_id == IDS[1] else ()
        return RunEntry(stored.run_id, stored.digest, stored.run_id, 2.5, "pass", "c0", False, (tickets, *more))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for run_id in IDS:
        keep_run(tmp_path, run_id, "{}\n", {})
    return tmp_path


def everything(found: RunIndex) -> object:
    return found.runs(), found.trend("tickets", "accuracy", kind="measure", view="adapter")


def test_it_says_what_the_records_say(root: Path) -> None:
    found = RunIndex(root, Reading())
    assert [entry.run_id for entry in found.runs()] == list(IDS[::-1])
    newest = found.runs(limit=1)[0]
    assert newest == RunEntry(
        IDS[2], read_run(root, IDS[2]).digest, IDS[2], 2.5, "pass", "c0", False,
        (RecipeEntry("tickets", "pass", "ad", 1, 1),),
    )  # fmt: skip
    assert [one.name for one in found.runs()[1].recipes] == ["tickets", "animals"]
    assert [entry.run_id for entry in found.runs(recipe="animals")] == [IDS[1]]
    assert found.recipe_names() == ["animals", "tickets"]
    assert found.figures("tickets") == [
        ("measure", "accuracy", "adapter"),
        ("gate", "tickets/t/accuracy", "adapter"),
    ]
    points = found.trend("tickets", "accuracy", kind="measure", view="adapter", limit=2)
    assert points == [
        Point(IDS[1], IDS[1], 0.75, 0.75, 0.75, 10, None, None, "ad"),
        Point(IDS[2], IDS[2], None, None, None, 10, None, None, "ad"),
    ]
    (gate,) = found.trend("tickets", "tickets/t/accuracy", kind="gate", view="adapter", limit=1)
    assert (gate.outcome, gate.bar) == ("pass", 0.4)


def test_only_what_is_new_is_read(root: Path) -> None:
    first, second, third = Reading(), Reading(), Reading()
    before = everything(RunIndex(root, first))
    assert everything(RunIndex(root, second)) == before
    keep_run(root, "20261123-090000-1", "{}\n", {})
    assert len(RunIndex(root, third).runs()) == 4
    assert (first.asked, second.asked, third.asked) == (list(IDS), [], ["20261123-090000-1"])


def test_runs_that_are_gone_are_dropped(root: Path) -> None:
    RunIndex(root, Reading())
    shutil.rmtree(root / "runs" / IDS[1])
    for _ in range(2):
        found = RunIndex(root, Reading())
        assert [entry.run_id for entry in found.runs()] == [IDS[2], IDS[0]]
        assert found.recipe_names() == ["tickets"]
        assert len(found.trend("tickets", "accuracy", kind="measure", view="adapter")) == 2


def of_another_version(file: Path) -> None:
    database = sqlite3.connect(":memory:")
    database.deserialize(file.read_bytes()[:-32])
    database.execute("PRAGMA user_version = 99")
    write(file, database.serialize())


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content + hashlib.sha256(content).digest())


def flip(place: int) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        file.write_bytes(content)

    return change


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: write(file, b"no database" * 1000),
        of_another_version,
        flip(0),
        flip(3000),
        flip(-1),
    ],
    ids=["lost", "empty", "cut", "no database", "other version", "first byte", "some byte", "last byte"],
)
def test_a_bad_index_is_made_again(root: Path, harm: Callable[[Path], None]) -> None:
    expected = everything(RunIndex(root, Reading()))
    harm(root / "runs.sqlite")
    again = Reading()
    assert everything(RunIndex(root, again)) == expected
    assert again.asked == list(IDS)
    untouched = Reading()
    assert everything(RunIndex(root, untouched)) == expected
    assert untouched.asked == []


def test_other_programs_can_open_it(root: Path) -> None:
    RunIndex(root, Reading())
    rows = sqlite3.connect(root / "runs.sqlite").execute("SELECT run_id, outcome FROM runs ORDER BY 1").fetchall()
    assert rows == [(run_id, "pass") for run_id in IDS]


def test_a_run_that_cannot_be_read_is_a_problem_and_hides_no_other(root: Path) -> None:
    (root / "runs" / IDS[1] / "report.json").write_text("edited")
    for _ in range(2):
        found = RunIndex(root, Reading())
        assert [entry.run_id for entry in found.runs()] == [IDS[2], IDS[0]]
        (problem,) = found.problems
        assert f"{IDS[1]}/report.json: its sha256 is not that" in problem


def test_a_run_that_says_nothing_is_a_problem(root: Path) -> None:
    def refuse(stored: StoredRun) -> RunEntry:
        raise StoreError(f"{stored.run_id} is odd")

    found = RunIndex(root, refuse)
    assert (found.runs(), found.problems) == ([], [f"{run_id} is odd" for run_id in IDS])


def test_an_empty_store_has_no_runs_and_gets_no_file(tmp_path: Path) -> None:
    assert RunIndex(tmp_path / "absent", Reading()).runs() == []
    assert not (tmp_path / "absent").exists()


def test_a_store_that_cannot_be_written_is_read_all_the_same(root: Path) -> None:
    (root / "runs.sqlite").mkdir()  # also for root, who may write where others may not
    assert len(RunIndex(root, Reading()).runs()) == 3
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


PROGRAM = """\
import sys
from pathlib import Path
from harness.store import RunEntry, RunIndex, keep_run

root, worker = Path(sys.argv[1]), int(sys.argv[2])
for k in range(10):
    keep_run(root, f"20261123-{worker:02d}{k:04d}-{worker}", "{}", {})
    found = RunIndex(root, lambda s: RunEntry(s.run_id, s.digest, "", 0.0, "pass", None, None, ()))
    assert found.problems == []
    assert f"20261123-{worker:02d}{k:04d}-{worker}" in {entry.run_id for entry in found.runs()}
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), str(k)]) for k in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0, 0]
    assert len(RunIndex(tmp_path, Reading()).runs()) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "runs.sqlite", "tmp"]
