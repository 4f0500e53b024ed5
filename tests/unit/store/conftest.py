"""A store in an empty folder, something to keep in it, and ways to make the disk refuse."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.store import Adapter, Store

FINGERPRINT = "ab" * 32
MANIFEST = {"global_step": 4, "max_steps": 4, "seconds": 1.5}
_NOBODY = 65534


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def keep(store: Store) -> Callable[..., Adapter]:
    """Keeps an adapter of two files; `text` tells one from another, keywords change the manifest."""

    def keep_one(text: str = "weights", **changes: Any) -> Adapter:
        with store.work_folder() as work:
            (work / "adapter_model.safetensors").write_text(text)
            (work / "tokenizer").mkdir()
            (work / "tokenizer" / "vocabulary.txt").write_text("a b c")
            return store.keep_adapter(work, FINGERPRINT, {**MANIFEST, **changes})

    return keep_one


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Within it no file of this process can grow beyond so many bytes: a disk that is full, for real."""

    @contextlib.contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder in which this process may not write, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders cannot be entered by another user
        folder = Path(name)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(_NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
