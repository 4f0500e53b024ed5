"""Answers by example: written by several processes, merged, damaged and repaired."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.store import Store, StoredAnswers

ROW = [-1.25, -2.5]


def add(answers: StoredAnswers, values: dict[str, Any]) -> None:
    with answers.adding() as keep:
        for example, value in values.items():
            keep(example, value)


def files(answers: StoredAnswers) -> list[Path]:
    return sorted(answers.folder.iterdir())


@pytest.fixture
def answers(store: Store) -> StoredAnswers:
    return store.answers("choices", "k" * 64)


def test_what_is_added_comes_back_and_nothing_is_made_by_reading(store: Store, answers: StoredAnswers) -> None:
    assert answers.read() == {}
    assert not store.root.exists()
    add(answers, {"a": ROW, "b": ["Zürich\n", True]})
    assert store.answers("choices", "k" * 64).read() == {"a": ROW, "b": ["Zürich\n", True]}
    assert store.answers("outputs", "k" * 64).read() == {}
    assert store.answers("choices", "l" * 64).read() == {}


def test_an_evaluation_leaves_one_file(answers: StoredAnswers) -> None:
    add(answers, {"a": 1})
    answers.read()
    add(answers, {"b": 2})
    (file,) = files(answers)
    assert [json.loads(line)[1:] for line in file.read_text().splitlines()] == [["a", 1], ["b", 2]]
    add(answers, {})
    assert files(answers) == [file]


def test_answers_are_on_the_disk_while_others_are_made(
    answers: StoredAnswers, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("harness.store.answers.time.monotonic", lambda: now)
    other = store.answers("choices", "k" * 64)
    with answers.adding() as keep:
        keep("a", 1)
        now = 104.9
        keep("b", 2)
        assert other.read() == {}
        now = 105.0
        keep("c", 3)
        assert other.read() == {"a": 1, "b": 2, "c": 3}
        keep("d", 4)
        assert other.read() == {"a": 1, "b": 2, "c": 3}
    assert other.read() == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert len(files(answers)) == 1


def test_what_was_answered_before_an_error_is_kept(answers: StoredAnswers) -> None:
    with pytest.raises(ZeroDivisionError), answers.adding() as keep:  # noqa: PT012
        keep("a", 1)
        raise ZeroDivisionError
    assert answers.read() == {"a": 1}


def test_the_last_value_of_an_example_stays(answers: StoredAnswers) -> None:
    add(answers, {"a": 1})
    answers.read()
    add(answers, {"a": 2, "b": 3})
    assert set(answers.read()) == {"a", "b"}
    assert len(files(answers)) == 1


WRITER = """\
import sys
from pathlib import Path
from harness.store import Store

store, name = Store(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    with store.answers("choices", "k").adding() as add:
        add(f"{name}-{number}", [number])
    store.answers("choices", "k").read()
    store.keep_result("capability", f"{name}-{number}", number)
    if number % 10 == 0:
        with store.adapter_lock("f"), store.work_folder() as work:
            (work / "weights").write_text(f"{name}-{number}")
"""


def test_of_eight_processes_with_fifty_writes_each_none_is_lost_or_doubled(store: Store) -> None:
    command = [sys.executable, "-c", WRITER, str(store.root)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen([*command, str(number)], text=True, **pipes) for number in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert errors == [""] * 8
    expected = {f"{process}-{number}": [number] for process in range(8) for number in range(50)}
    stored = store.answers("choices", "k")
    assert stored.read() == expected
    add(stored, {})
    (file,) = files(stored)
    assert sorted(json.loads(line)[1] for line in file.read_text().splitlines()) == sorted(expected)
    assert all(store.result("capability", name) == number for name, (number,) in expected.items())
    assert sum(1 for _ in (store.root / "results" / "capability").iterdir()) == 400
    assert not [path for path in (store.root / "tmp").iterdir() if path.is_dir()]


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    """One bit of each byte in turn: the answers that are read are those that were written, and the rest is repaired."""
    written = {"a": ROW, "b": ["text", False], "c": 3}
    whole_store = Store(tmp_path / "whole")
    add(whole_store.answers("choices", "k"), written)
    (file,) = files(whole_store.answers("choices", "k"))
    whole = file.read_bytes()
    for position in range(len(whole)):
        lines: list[str] = []
        answers = Store(tmp_path / str(position), lines.append).answers("choices", "k")
        answers.folder.mkdir(parents=True)
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        (answers.folder / file.name).write_bytes(bytes(content))
        found = answers.read()
        assert found.items() < written.items()
        # A damaged line end takes two lines with it.
        assert len(found) >= 1
        assert lines == [
            f"{answers.folder / file.name}: damaged; {len(found)} answers in it are whole, the others are made again"
        ]
        if position % 8 == 0:
            assert answers.read() == found
            assert len(lines) == 1  # it is out of the way
            add(answers, written)
            assert answers.read() == written


def test_a_file_of_which_nothing_is_whole_is_removed(answers: StoredAnswers) -> None:
    add(answers, {"a": 1})
    (file,) = files(answers)
    file.write_bytes(b"\xff\x00")
    assert answers.read() == {}
    assert files(answers) == []


def test_a_file_that_cannot_be_read_is_one_line(answers: StoredAnswers) -> None:
    file = answers.folder / "a.jsonl"
    file.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"a\.jsonl: cannot be read \(Is a directory\)\. Remove it, or give this user"):
        answers.read()


def test_a_file_that_another_process_merged_meanwhile_is_in_the_one_it_wrote(
    answers: StoredAnswers, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(answers, {"a": 1})
    other = store.answers("choices", "k" * 64)
    real = Path.read_bytes

    def late(file: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", real)
        other.read()
        add(other, {"b": 2})
        return real(file)

    monkeypatch.setattr(Path, "read_bytes", late)
    assert answers.read() == {"a": 1, "b": 2}


def test_a_file_that_is_cut_short_keeps_its_whole_lines(answers: StoredAnswers) -> None:
    add(answers, {"a": 1, "b": 2})
    (file,) = files(answers)
    file.write_bytes(file.read_bytes()[:-20])
    assert answers.read() == {"a": 1}


def test_a_damaged_store_that_cannot_be_written_is_still_read(answers: StoredAnswers, read_only_folder: Path) -> None:
    """The folder is made by somebody else, and this process may only read it."""
    privileged = os.getuid() == 0
    if privileged:
        os.seteuid(0)
    read_only_folder.chmod(0o755)
    lines: list[str] = []
    there = Store(read_only_folder, lines.append).answers("choices", "k")
    add(there, {"a": 1, "b": 2})
    (file,) = files(there)
    file.write_bytes(file.read_bytes().replace(b'"b",2', b'"b",3'))
    for folder in (there.folder, read_only_folder / "tmp"):
        folder.chmod(0o555)
    if privileged:
        os.seteuid(65534)
    assert there.read() == {"a": 1}
    assert len(lines) == 1
    with pytest.raises(StoreError, match="cannot be written"):
        add(there, {"b": 2})
    assert files(there) == [file]


KILLED = """\
import os, random, signal, sys, threading, time
from pathlib import Path
from harness.store import answers, Store

answers._SECONDS = 0.0
store, name = Store(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
with store.answers("choices", "k").adding() as add:
    number = 0
    while True:
        add(f"{name}-{number}", [number] * 50)
        number += 1
        if number % 5 == 0:
            with store.answers("choices", "k").adding() as again:
                again(f"{name}-again-{number}", [number])
            store.answers("choices", "k").read()
"""


def test_a_process_that_is_killed_leaves_only_what_is_whole(store: Store) -> None:
    lines: list[str] = []
    reader = Store(store.root, lines.append).answers("choices", "k")
    counts = []
    for attempt in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store.root), str(attempt)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(0.05 + 0.1 * attempt)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        found = reader.read()
        counts.append(len(found))
        for example, value in found.items():
            number = int(example.rpartition("-")[2])
            assert value == ([number] if "again" in example else [number] * 50)
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert lines == []
