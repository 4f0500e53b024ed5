"""A folder of adapters and evaluation results, safe against interruption and against two runs at once.

    <root>/adapters/<fingerprint>/      safetensors, tokenizer, training_log.jsonl, manifest.json (written last)
    <root>/checkpoints/<fingerprint>/   of a training that has not ended: <step>/, each with a manifest
    <root>/answers/<kind>/<key>/        what a model answered, by example
    <root>/results/<kind>/<key>.json    capability items, integrity checks
    <root>/grades.sqlite                what judges said, and batches that have not ended; see harness.store.grades
    <root>/locks/                       a file for each adapter that was trained
    <root>/tmp/                         work in progress; swept when its owner is gone

Everything but the SQLite file is written under a temporary name and renamed, so a name that exists is complete.
Nothing is a pickle but parts of checkpoints, which torch reads as weights only. docs/store.md says what survives what.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.errors import StoreError
from harness.store.answers import StoredAnswers
from harness.store.checkpoints import Checkpoints
from harness.store.disk import (
    UNFINISHED,
    DamagedError,
    content_key,
    keep_text,
    read_manifest,
    sync,
    write_manifest,
)

if TYPE_CHECKING:
    from harness.store.grades import GradeStore

__all__ = ["Adapter", "Store", "content_key"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER = re.compile(r"[0-9a-f]{32}")
# Texts are written in seconds; one that lies there longer was left by a process that is gone.
_SECONDS_UNFINISHED = 3600.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A complete adapter directory. digest: sha256 over the names and digests of its files."""

    folder: Path
    fingerprint: str
    digest: str
    manifest: Mapping[str, Any]


class Store:
    """The artifacts below one folder; the folder is made on first write, and reading one that is whole writes nothing.

    report: gets a line about each thing that is damaged, and when another process is waited for.
    """

    def __init__(self, root: Path, report: Callable[[str], None] = lambda line: None) -> None:
        self.root = root
        self._report = report
        self._reported: set[str] = set()

    @functools.cached_property
    def grades(self) -> GradeStore:
        """What judges said."""
        from harness.store.grades import GradeStore

        return GradeStore(self.root / "grades.sqlite", self._report)

    def adapter(self, fingerprint: str) -> Adapter | None:
        """The adapter with this fingerprint, or None if there is none that is whole.

        Whole: the manifest is as it was written, names this fingerprint, training made all its steps, and every file
        has the digest that the manifest gives. Anything else is reported, and as if it were absent.
        """
        folder = self._adapter_folder(fingerprint)
        try:
            manifest = read_manifest(folder, {"fingerprint": fingerprint})
            if manifest is None:
                return None
            if manifest.get("global_step") is None or manifest["global_step"] != manifest.get("max_steps"):
                raise DamagedError("the training did not make all its steps")
        except DamagedError as damage:
            self._damaged(folder, damage)
            return None
        return Adapter(folder, fingerprint, content_key(manifest["files"]), manifest)

    @contextlib.contextmanager
    def adapter_lock(self, fingerprint: str) -> Iterator[None]:
        """Held while an adapter is trained: a second process waits, and then finds it in the store.

        A lock of the operating system, which ends with its process however that ends.
        """
        with self._writing():
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{fingerprint}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self._report(f"another process trains the adapter {fingerprint[:12]}; waiting for it")
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
            self._work.mkdir(parents=True, exist_ok=True)
            with self._work_lock():
                self._sweep()
                folder = self._work / uuid.uuid4().hex
                owned = FileLock(_lock_of(folder))
                owned.acquire()
                folder.mkdir(mode=0o700)
        try:
            yield folder
        except Exception as error:
            number = _error_number(error)
            if number not in _NO_ROOM:
                raise
            raise self._cannot_be_written(os.strerror(number)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            owned.release()
            _lock_of(folder).unlink(missing_ok=True)

    def keep_adapter(self, work: Path, fingerprint: str, manifest: Mapping[str, Any]) -> Adapter:
        """Move a finished adapter to its place: digests are added to the manifest, which is written last.

        Where a whole one is there already that one stays, and is given back: others may be reading it.
        """
        with self._writing():
            complete = write_manifest(work, {**manifest, "fingerprint": fingerprint})
            target = self._adapter_folder(fingerprint)
            target.parent.mkdir(parents=True, exist_ok=True)
            known = self.adapter(fingerprint)
            if known is None:
                if target.exists():
                    os.replace(target, self._work / uuid.uuid4().hex)  # swept with the next work folder
                os.replace(work, target)
                sync(target.parent)
        shutil.rmtree(self._checkpoint_folder(fingerprint), ignore_errors=True)
        return known or Adapter(target, fingerprint, content_key(complete["files"]), complete)

    def checkpoints(self, fingerprint: str) -> Checkpoints:
        """Those of the training of this adapter, for the process that holds its lock; keep_adapter removes them."""
        return Checkpoints(self._checkpoint_folder(fingerprint), fingerprint, self._report)

    def answers(self, kind: str, key: str) -> StoredAnswers:
        """Values by example. key: of everything that decides them beside the example."""
        folder = self.root / "answers" / kind / key
        return StoredAnswers(folder, work=self._work, report=self._report, writing=self._writing)

    def result(self, kind: str, key: str) -> Any | None:
        """The stored value, or None if there is none or its file is damaged, which is reported."""
        file = self._result_file(kind, key)
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            text = ""
        try:
            value = json.loads(text)["value"]
            if text == _result_text(value):
                return value
        except (ValueError, KeyError, TypeError):
            pass
        self._damaged(file, DamagedError("it is not as it was written"))
        return None

    def keep_result(self, kind: str, key: str, value: Any) -> None:
        """Store JSON values; NaN is refused with StoreError, since it would read back as something else."""
        file = self._result_file(kind, key)
        try:
            text = _result_text(value)
        except ValueError as error:
            raise StoreError(f"{file}: a result that is not finite cannot be stored ({error})") from error
        with self._writing():
            keep_text(file, text, self._work)

    def require_writable(self) -> None:
        """Raises StoreError where nothing can be written: asked before work whose result has to be kept."""
        with self._writing():
            self._work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._work) as stream:
                stream.write(b"room for a byte")

    def _damaged(self, place: Path, damage: DamagedError) -> None:
        line = f"{place}: damaged ({damage}); it counts as absent and is made again"
        if line not in self._reported:  # an adapter is looked for twice, before its lock is ours and after
            self._reported.add(line)
            self._report(line)

    @property
    def _work(self) -> Path:
        return self.root / "tmp"

    def _adapter_folder(self, fingerprint: str) -> Path:
        return self.root / "adapters" / fingerprint

    def _checkpoint_folder(self, fingerprint: str) -> Path:
        return self.root / "checkpoints" / fingerprint

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

    def _work_lock(self) -> FileLock:
        """Between looking for a folder's owner and removing it, nobody makes one."""
        return FileLock(self._work / "folders.lock")

    def _sweep(self) -> None:
        """Remove what processes left that no longer run.

        A folder's owner holds its lock. Process ids would not do: containers on one store count their own.
        """
        for path in self._work.iterdir():
            if path.suffix == UNFINISHED:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > _SECONDS_UNFINISHED:
                        path.unlink()
            elif _FOLDER.fullmatch(path.name) and path.is_dir():
                lock = FileLock(_lock_of(path))
                with contextlib.suppress(Timeout), lock.acquire(blocking=False):
                    shutil.rmtree(path, ignore_errors=True)
                    _lock_of(path).unlink(missing_ok=True)
        for checkpoints in (self.root / "checkpoints").glob("*"):
            if self.adapter(checkpoints.name) is not None:  # killed between keeping it and removing them
                shutil.rmtree(checkpoints, ignore_errors=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _result_text(value: Any) -> str:
    return json.dumps({"digest": content_key({"value": value}), "value": value}, allow_nan=False)


def _error_number(error: Exception) -> int:
    """The system's error number, or 0. safetensors' own exception has it only in its text."""
    if isinstance(error, OSError):
        return error.errno or 0
    stated = re.search(r"\(os error (\d+)\)", str(error))
    return int(stated[1]) if stated else 0
