"""A disk that is full from the Nth write on, for every N: nothing wrong is ever read, and the next run mends it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.store import Store

FINGERPRINT = "ab" * 32
ROWS = {f"e{k}": [k, -1.5] for k in range(3)}


class _Counted:
    """A file whose writes count."""

    def __init__(self, stream: Any, count: Callable[[], None]) -> None:
        self._stream = stream
        self._count = count

    def write(self, content: Any) -> Any:
        self._count()
        return self._stream.write(content)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def full_from(write: int, patch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Within it what needs room fails from the Nth time on. Gives how often it was asked for."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done >= write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return real(*arguments, **options)

        return call

    real_open = io.open

    def opening(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real_open(file, mode, *arguments, **options)
        count()
        return _Counted(real_open(file, mode, *arguments, **options), count)

    with patch.context() as patched:
        patched.setattr(io, "open", opening)
        for name in ("fsync", "mkdir", "replace"):
            patched.setattr(os, name, counting(getattr(os, name)))
        yield lambda: done


def write_checkpoint(folder: Path) -> None:
    (folder / "optimizer.pt").write_text("moments")


def train(store: Store) -> None:
    with store.adapter_lock(FINGERPRINT):
        if store.adapter(FINGERPRINT) is not None:
            return
        checkpoints = store.checkpoints(FINGERPRINT)
        if checkpoints.latest(["optimizer.pt"]) is None:
            checkpoints.keep(3, write_checkpoint)
        with store.work_folder() as work:
            (work / "adapter_model.safetensors").write_text("weights")
            store.keep_adapter(work, FINGERPRINT, {"global_step": 4, "max_steps": 4})


def evaluate(store: Store) -> None:
    answers = store.answers("choices", "k")
    for example in ROWS:
        if example not in answers.read():
            with answers.adding() as add:
                add(example, ROWS[example])
    if store.result("integrity", "k") is None:
        store.keep_result("integrity", "k", {"passed": True})


def assert_nothing_wrong(store: Store) -> None:
    adapter = store.adapter(FINGERPRINT)
    if adapter is not None:
        assert (adapter.folder / "adapter_model.safetensors").read_text() == "weights"
    checkpoint = store.checkpoints(FINGERPRINT).latest(["optimizer.pt"])
    if checkpoint is not None:
        assert (checkpoint / "optimizer.pt").read_text() == "moments"
    assert store.answers("choices", "k").read().items() <= ROWS.items()
    assert store.result("integrity", "k") in (None, {"passed": True})


def test_a_disk_that_is_full_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0
    for write in range(1, 1000):
        lines: list[str] = []
        store = Store(tmp_path / str(write), lines.append)
        with full_from(write, monkeypatch) as done:
            said = ""
            try:
                train(store)
                evaluate(store)
            except (HarnessError, OSError) as error:  # a checkpoint's is caught where the training makes it
                said = str(error)
            if done() < write:
                break
            assert "No space left on device" in said
            refused += 1
        assert_nothing_wrong(store)
        train(store)
        evaluate(store)
        assert store.adapter(FINGERPRINT) is not None
        assert store.answers("choices", "k").read() == ROWS
        assert lines == []  # what was not finished is absent, and not damaged
        with store.work_folder():
            assert not list((store.root / "checkpoints").iterdir())
    assert refused == write - 1 > 50
