"""Several processes, processes that die, a full disk and a folder without rights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.store import Adapter, Store

FINGERPRINT = "ab" * 32
Keep = Callable[..., Adapter]
Limit = Callable[[int], AbstractContextManager[None]]

TRAINER = """\
import os, sys, time
from pathlib import Path
from harness.store import Store

store, fingerprint, log = Store(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with store.adapter_lock(fingerprint):
    found = store.adapter(fingerprint)
    if found is None:
        with log.open("a") as stream:
            stream.write(f"{os.getpid()}\\n")
        with store.work_folder() as work:
            time.sleep(0.3)
            (work / "adapter_model.safetensors").write_text(f"trained by {os.getpid()}")
            found = store.keep_adapter(work, fingerprint, {"global_step": 2, "max_steps": 2})
print(found.digest)
"""

WORKER = """\
import sys
from pathlib import Path
from harness.store import Store

with Store(Path(sys.argv[1])).work_folder() as work:
    (work / "adapter_model.safetensors").write_text("half")
    print(work, flush=True)
    sys.stdin.readline()
"""

HOLDER = """\
import sys
from pathlib import Path
from harness.store import Store

with Store(Path(sys.argv[1])).adapter_lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""

DYING = """\
import os, signal, sys
from pathlib import Path
from harness.store import Store

def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, sys.argv[3], die)
store = Store(Path(sys.argv[1]))
with store.work_folder() as work:
    (work / "adapter_model.safetensors").write_text("whole")
    store.keep_adapter(work, sys.argv[2], {"global_step": 2, "max_steps": 2})
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_two_processes_one_trains(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "trainings"
    processes = [start(TRAINER, store.root, FINGERPRINT, log) for _ in range(2)]
    for process in processes:  # both have imported everything before either begins
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert len(log.read_text().split()) == 1
    found = store.adapter(FINGERPRINT)
    assert found is not None
    assert {out.strip() for out, _ in results} == {found.digest}
    assert found.folder.joinpath("adapter_model.safetensors").read_text() == f"trained by {log.read_text().strip()}"


def test_locks_of_other_adapters_do_not_wait(store: Store) -> None:
    with store.adapter_lock("a" * 64), store.adapter_lock("b" * 64):
        pass


def test_the_lock_is_free_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.adapter_lock(FINGERPRINT):
        raise ZeroDivisionError
    process = start(TRAINER, store.root, FINGERPRINT, store.root / "log")
    out, err = process.communicate("go\n", timeout=120)
    assert process.returncode == 0, err
    assert store.adapter(FINGERPRINT) is not None, out


def test_only_what_dead_processes_left_is_swept(store: Store) -> None:
    process = start(WORKER, store.root)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    stranger = store.root / "tmp" / "notes"
    stranger.mkdir()
    with store.work_folder() as ours:
        assert left.is_dir()
        assert ours.parent == left.parent
        with store.work_folder():
            assert ours.is_dir()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert left.is_dir()
    with store.work_folder():
        assert not left.exists()
        assert stranger.is_dir()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_process_killed_while_keeping_leaves_no_adapter(store: Store, keep: Keep, call: str) -> None:
    process = start(DYING, store.root, FINGERPRINT, call)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert store.adapter(FINGERPRINT) is None
    assert len(work_folders(store)) == 1
    keep()
    assert store.adapter(FINGERPRINT) is not None
    assert not work_folders(store)


def work_folders(store: Store) -> list[Path]:
    return [path for path in (store.root / "tmp").iterdir() if path.is_dir()]


def test_a_process_that_waits_for_another_says_so(store: Store) -> None:
    lines: list[str] = []

    def go_on(line: str) -> None:
        lines.append(line)
        process.communicate("\n", timeout=60)

    with store.work_folder():  # the folder of the store is there
        process = start(HOLDER, store.root, FINGERPRINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with Store(store.root, go_on).adapter_lock(FINGERPRINT):
        pass
    assert lines == [f"another process trains the adapter {FINGERPRINT[:12]}; waiting for it"]


def test_a_dead_owners_lock_is_free(store: Store) -> None:
    process = start(HOLDER, store.root, FINGERPRINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    lines: list[str] = []
    with Store(store.root, lines.append).adapter_lock(FINGERPRINT):
        assert lines == []


def test_what_was_written_halfway_is_swept_after_an_hour(store: Store) -> None:
    store.keep_result("outputs", "a", 1)
    old, new = (store.root / "tmp" / f"{name}.part" for name in ("old", "new"))
    for file in (old, new):
        file.write_text("{")
    an_hour_ago = old.stat().st_mtime - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    with store.work_folder():
        assert not old.exists()
        assert new.exists()


def one_line_about_room(root: Path, why: str) -> str:
    return (
        rf"^{root}: cannot be written \({why}; [\d,]+ MB free\)\. "
        r"Make room, or choose another folder with --harness-store\.$"
    )


def test_a_full_disk_is_one_line_with_what_to_do(store: Store, keep: Keep, file_size_limit: Limit) -> None:
    text = "x" * 20_000
    with file_size_limit(4_000), pytest.raises(StoreError, match=one_line_about_room(store.root, "File too large")):
        store.keep_result("outputs", "a", text)
    assert store.result("outputs", "a") is None
    assert not list((store.root / "results" / "outputs").iterdir())

    with file_size_limit(4_000), pytest.raises(StoreError, match=one_line_about_room(store.root, "File too large")):
        keep(note=text)  # the files fit, the manifest does not
    assert store.adapter(FINGERPRINT) is None


def test_an_earlier_result_survives_a_full_disk(store: Store, file_size_limit: Limit) -> None:
    store.keep_result("outputs", "a", "short")
    with file_size_limit(4_000), pytest.raises(StoreError):
        store.keep_result("outputs", "a", "x" * 20_000)
    assert store.result("outputs", "a") == "short"


@pytest.mark.parametrize(
    "error",
    [OSError(28, os.strerror(28)), RuntimeError("Error while serializing: No space left on device (os error 28)")],
    ids=["OSError", "in words"],
)
def test_a_full_disk_during_training_is_the_same_line(store: Store, error: Exception) -> None:
    """safetensors raises an exception of its own, which says only in words that the disk is full."""
    expected = one_line_about_room(store.root, "No space left on device")
    with pytest.raises(StoreError, match=expected), store.work_folder():
        raise error


def test_other_errors_of_training_are_not_taken_for_a_full_disk(store: Store) -> None:
    with pytest.raises(FileNotFoundError, match="tokenizer"), store.work_folder():
        raise FileNotFoundError(2, "No such file or directory", "tokenizer.json")
    with pytest.raises(ValueError, match="learning rate"), store.work_folder():
        raise ValueError("learning rate")


def keep_answer(store: Store) -> None:
    with store.answers("outputs", "a").adding() as add:
        add("example", ["text", False])


WRITES: dict[str, Callable[[Store], Any]] = {
    "keep_result": lambda store: store.keep_result("outputs", "a", 1),
    "work_folder": lambda store: store.work_folder().__enter__(),
    "answers": lambda store: keep_answer(store),
    "require_writable": lambda store: store.require_writable(),
    "adapter_lock": lambda store: store.adapter_lock(FINGERPRINT).__enter__(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_folder_without_rights_is_one_line(read_only_folder: Path, write: Callable[[Store], Any]) -> None:
    root = read_only_folder / "store"
    with pytest.raises(StoreError, match=one_line_about_room(root, "Permission denied")):
        write(Store(root))


def test_a_lock_without_rights_is_one_line(read_only_folder: Path) -> None:
    """The folders are there, made by somebody else, and only the lock's file cannot be."""
    privileged = os.getuid() == 0
    if privileged:
        os.seteuid(0)
    read_only_folder.chmod(0o755)
    (read_only_folder / "locks").mkdir(mode=0o555)
    read_only_folder.chmod(0o555)
    if privileged:
        os.seteuid(65534)
    with (
        pytest.raises(StoreError, match=one_line_about_room(read_only_folder, "Permission denied")),
        Store(read_only_folder).adapter_lock(FINGERPRINT),
    ):
        pass


def test_a_file_in_the_place_of_the_store_is_one_line(tmp_path: Path) -> None:
    root = tmp_path / "taken"
    root.write_text("")
    with pytest.raises(StoreError, match=one_line_about_room(root, "(Not a directory|File exists)")):
        Store(root).keep_result("outputs", "a", 1)
