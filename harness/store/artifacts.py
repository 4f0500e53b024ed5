"""A folder of adapters and evaluation results, safe against interruption and against two runs at once.

    <root>/adapters/<fingerprint>/      safetensors, tokenizer, training_log.jsonl, manifest.json (written last)
    <root>/checkpoints/<fingerprint>/   of a training that has not ended: <step>/, each with a manifest
    <root>/results/<kind>/<key>.json    outputs, choices, capability items, judge grades
    <root>/tmp/                         work in progress; swept when its owner is gone

Everything is written under a temporary name and renamed, so a name that exists is complete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.errors import StoreError
from harness.store.checkpoints import Checkpoints
from harness.store.disk import content_key, read_manifest, sync, write_manifest, write_synced

__all__ = ["Adapter", "Store"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A complete adapter directory. digest: sha256 over the names and digests of its files."""

    folder: Path
    fingerprint: str
    digest: str
    manifest: Mapping[str, Any]


class Store:
    """The artifacts below one folder; the folder is made on first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def adapter(self, fingerprint: str) -> Adapter | None:
        """The adapter with this fingerprint, or None if there is none that is whole.

        Whole: the manifest is there, names this fingerprint, training made all its steps, and every file has
        the digest that the manifest gives. Anything else is as if it were absent, and is trained again.
        """
        folder = self.root / "adapters" / fingerprint
        manifest = read_manifest(folder, {"fingerprint": fingerprint})
        if manifest is None or not _all_steps(manifest):
            return None
        return Adapter(folder, fingerprint, content_key(manifest["files"]), manifest)

    @contextlib.contextmanager
    def adapter_lock(self, fingerprint: str) -> Iterator[None]:
        """Held while an adapter is trained: a second process waits, and then finds it in the store."""
        with self._writing():
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{fingerprint}.lock")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """An empty folder for work in progress, removed at the end unless it was handed to keep_adapter.

        Raises StoreError where writing into it fails for want of room.
        """
        with self._writing():
            parent = self.root / "tmp"
            parent.mkdir(parents=True, exist_ok=True)
            self._sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        try:
            yield folder
        except Exception as error:
            number = _error_number(error)
            if number not in _NO_ROOM:
                raise
            raise self._cannot_be_written(os.strerror(number)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep_adapter(self, work: Path, fingerprint: str, manifest: Mapping[str, Any]) -> Adapter:
        """Move a finished adapter to its place: file digests are added to the manifest, which is written last."""
        with self._writing():
            complete = write_manifest(work, {**manifest, "fingerprint": fingerprint})
            target = self.root / "adapters" / fingerprint
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # a damaged one, or `adapter` would have found it
                shutil.rmtree(target)
            os.replace(work, target)
            sync(target.parent)
        shutil.rmtree(self._checkpoints(fingerprint), ignore_errors=True)
        return Adapter(target, fingerprint, content_key(complete["files"]), complete)

    def checkpoints(self, fingerprint: str, report: Callable[[str], None]) -> Checkpoints:
        """Those of the training of this adapter, for the process that holds its lock; keep_adapter removes them.

        report: gets a line about each that is damaged.
        """
        return Checkpoints(self._checkpoints(fingerprint), fingerprint, report)

    def _checkpoints(self, fingerprint: str) -> Path:
        return self.root / "checkpoints" / fingerprint

    def result(self, kind: str, key: str) -> Any | None:
        """The stored value, or None if there is none or its file is damaged."""
        try:
            stored = json.loads(self._result_file(kind, key).read_text(encoding="utf-8"))
            return stored["value"] if stored["digest"] == content_key({"value": stored["value"]}) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_result(self, kind: str, key: str, value: Any) -> None:
        """Store JSON values; NaN is refused with StoreError, since it would read back as something else."""
        file = self._result_file(kind, key)
        try:
            text = json.dumps({"digest": content_key({"value": value}), "value": value}, allow_nan=False)
        except ValueError as error:
            raise StoreError(f"{file}: a result that is not finite cannot be stored ({error})") from error
        with self._writing():
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            try:
                write_synced(temporary, text)
                os.replace(temporary, file)
            finally:
                temporary.unlink(missing_ok=True)

    def _result_file(self, kind: str, key: str) -> Path:
        return self.root / "results" / kind / f"{key}.json"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a full disk or missing rights into one line that says how much room there is."""
        try:
            yield
        except OSError as error:
            raise self._cannot_be_written(error.strerror or str(error)) from error

    def _cannot_be_written(self, why: str) -> StoreError:
        place = next(p for p in (self.root, *self.root.parents) if p.exists())
        free = shutil.disk_usage(place).free / 1e6
        return StoreError(
            f"{self.root}: cannot be written ({why}; {free:,.0f} MB free). "
            "Make room, or choose another folder with --harness-store."
        )

    @staticmethod
    def _sweep(parent: Path) -> None:
        """Remove what processes left that no longer run."""
        for folder in parent.iterdir():
            owner = folder.name.partition("-")[0]
            if owner.isdigit() and not _is_running(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def _all_steps(manifest: Mapping[str, Any]) -> bool:
    made = manifest.get("global_step")
    return made is not None and made == manifest.get("max_steps")


def _error_number(error: Exception) -> int:
    """The system's error number, or 0. safetensors' own exception has it only in its text."""
    if isinstance(error, OSError):
        return error.errno or 0
    stated = re.search(r"\(os error (\d+)\)", str(error))
    return int(stated[1]) if stated else 0


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
