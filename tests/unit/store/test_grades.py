"""The SQLite file of grades: whole or asked again, never wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import GradeStore, Store

VALUE = {"score": 4.5, "criteria": {"é": 4.0}, "rationale": "B\u2028ecause \ud800", "problem": None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "grades.sqlite"


def test_what_was_kept_comes_back_in_another_process_too(file: Path) -> None:
    grades = GradeStore(file)
    assert grades.get(["a"]) == {}
    assert not file.parent.exists(), "reading makes nothing"
    grades.put("a", VALUE)
    grades.put("a", {**VALUE, "score": 5.0})
    grades.put("b", VALUE)
    for store in (grades, GradeStore(file), Store(file.parent).grades):
        assert store.get(["b", "a", "c", "a"]) == {"a": {**VALUE, "score": 5.0}, "b": VALUE}


def test_many_keys_are_found_at_once(file: Path) -> None:
    grades = GradeStore(file)
    for n in range(20):
        grades.put(str(n), {"score": n})
    found = grades.get([str(n) for n in range(1_400)])
    assert found == {str(n): {"score": n} for n in range(20)}


def test_nan_is_refused(file: Path) -> None:
    with pytest.raises(StoreError, match="a grade that is not finite cannot be stored"):
        GradeStore(file).put("a", {"score": float("nan")})


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE grades SET value = replace(value, '4.5', '5.0')",
        "UPDATE grades SET value = 'not JSON'",
        "UPDATE grades SET digest = ''",
        "UPDATE grades SET key = 'b' WHERE key = 'a'",
    ],
)
def test_a_row_that_was_changed_is_not_used_and_said(file: Path, change: str) -> None:
    said: list[str] = []
    grades = GradeStore(file, said.append)
    grades.put("a", VALUE)
    with sqlite3.connect(file) as connection:
        connection.execute(change)
    connection.close()
    assert grades.get(["a", "b"]) == {}
    if "key" not in change:
        assert said == [f"{file}: 1 grade is damaged and not used; the judge is asked again"]
    grades.put("a", VALUE)
    assert grades.get(["a"]) == {"a": VALUE}


def damage_all(file: Path) -> None:
    file.write_bytes(b"not a database, but long enough to be looked at" * 100)


def damage_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100:] = os.urandom(len(content) - 100)
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 4096 + 100])


@pytest.mark.parametrize("damage", [damage_all, damage_pages, cut])
def test_a_damaged_file_is_set_aside_and_begun_anew(file: Path, damage: object) -> None:
    grades = GradeStore(file)
    for n in range(200):
        grades.put(str(n), VALUE)
    grades.close()
    damage(file)  # type: ignore[operator]
    said: list[str] = []
    grades = GradeStore(file, said.append)
    found = grades.get([str(n) for n in range(200)])
    grades.put("new", VALUE)
    assert found == {}
    assert grades.get(["new"]) == {"new": VALUE}
    aside = [path.name for path in file.parent.iterdir() if ".damaged-" in path.name]
    assert len(aside) == 1
    (line,) = said
    assert line.startswith(f"{file}: damaged (")
    assert line.endswith(f"kept as {aside[0]}, and begun anew: the judge is asked again")


def test_a_file_that_another_process_has_renewed_is_not_set_aside_again(file: Path) -> None:
    grades = GradeStore(file)
    grades.put("a", VALUE)
    grades._set_aside("as if it had been damaged")
    assert grades.get(["a"]) == {"a": VALUE}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be written \(.*\)\. Choose another folder with --harness-store\."):
        GradeStore(tmp_path / "store" / "grades.sqlite").put("a", VALUE)


def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "grades.sqlite").mkdir()
    with pytest.raises(
        StoreError, match=r"grades\.sqlite: cannot be used \(unable to open database file\)\. Make room"
    ):
        GradeStore(tmp_path / "grades.sqlite").put("a", VALUE)


def test_batches_are_kept_until_they_end(file: Path) -> None:
    grades = GradeStore(file)
    assert grades.open_batches() == []
    grades.keep_batch("one", ["b", "a"])
    grades.keep_batch("two", ["c"])
    assert GradeStore(file).open_batches() == [("one", {"a", "b"}), ("two", {"c"})]
    grades.end_batch("one")
    assert GradeStore(file).open_batches() == [("two", {"c"})]
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE batches SET begun = begun - 30 * 86400")
    connection.close()
    assert GradeStore(file).open_batches() == [], "its results are no longer kept"


def test_threads_write_at_the_same_time(file: Path) -> None:
    grades = GradeStore(file)
    others = [grades, GradeStore(file)]

    def write(k: int) -> None:
        for n in range(25):
            others[k % 2].put(f"{k}-{n}", {"score": n})

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(GradeStore(file).get([f"{k}-{n}" for k in range(8) for n in range(25)])) == 200


WRITER = """\
import sys
from pathlib import Path
from harness.store.grades import GradeStore
grades = GradeStore(Path(sys.argv[1]))
for n in range(100_000):
    grades.put(f"{sys.argv[2]}-{n}", {"score": n})
    print(n, flush=True)
"""


def test_processes_write_at_once_and_one_that_is_killed_loses_nothing_it_had_kept(file: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", WRITER, str(file)]
    writers = [
        subprocess.Popen(
            [*command, name], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
        )
        for name in ("x", "y", "z")
    ]
    kept: dict[str, int] = {}
    try:
        for name, writer in zip("xyz", writers, strict=True):
            assert writer.stdout is not None
            for line in writer.stdout:
                kept[name] = int(line)
                if kept[name] >= 30:
                    break
    finally:
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.communicate()
    started = time.monotonic()
    found = GradeStore(file).get([f"{name}-{n}" for name in "xyz" for n in range(31)])
    assert len(found) == 3 * 31
    assert all(value["score"] == int(key[2:]) for key, value in found.items())
    assert time.monotonic() - started < 5.0


def test_a_file_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "grades.sqlite"
    made = GradeStore(file)
    made.put("a", {"score": 4.0})
    made.close()
    # Rights do not stop every user who runs these tests.
    monkeypatch.setattr("harness.store.grades.os.access", lambda place, mode: False)
    store = GradeStore(file)
    assert store.get(["a", "b"]) == {"a": {"score": 4.0}}
    assert [path.name for path in tmp_path.iterdir()] == ["grades.sqlite"]
    with pytest.raises(StoreError, match=r"grades\.sqlite: cannot be used \(attempt to write a readonly database\)"):
        store.put("b", {"score": 1.0})
