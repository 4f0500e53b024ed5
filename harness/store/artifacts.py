"""A folder of adapters and evaluation results, safe against interruption and against two runs at once.

    <root>/adapters/<fingerprint>/      safetensors, tokenizer, training_log.jsonl, manifest.json (written last)
    <root>/results/<kind>/<key>.json    outputs, choices, capability items
    <root>/grades.sqlite                judge grades, and batches that have not ended; see harness.store.grades
    <root>/tmp/                         work in progress; swept when its owner is gone

Everything but the SQLite file is written under a temporary name and renamed, so a name that exists is complete.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.errors import StoreError

if TYPE_CHECKING:
    from harness.store.grades import GradeStore

__all__ = ["Adapter", "Store", "content_key"]

_MANIFEST = "manifest.json"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A complete adapter directory. digest: sha256 over the names and digests of its files."""

    folder: Path
    fingerprint: str
    digest: str
    manifest: Mapping[str, Any]


def content_key(content: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of `content`, which must be JSON values without NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """The artifacts below one folder; the folder is made on first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @functools.cached_property
    def grades(self) -> GradeStore:
        """What judges graded."""
        from harness.store.grades import GradeStore

        return GradeStore(self.root / "grades.sqlite")

    def adapter(self, fingerprint: str) -> Adapter | None:
        """The adapter with this fingerprint, or None if there is none that is whole.

        Whole: the manifest is there, names this fingerprint, training made all its steps, and every file has
        the digest that the manifest gives. Anything else is as if it were absent, and is trained again.
        """
        folder = self.root / "adapters" / fingerprint
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            files = dict(manifest["files"])
            whole = (
                manifest["fingerprint"] == fingerprint
                and manifest["global_step"] == manifest["max_steps"]
                and bool(files)
                and all(_file_digest(folder / name) == digest for name, digest in files.items())
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Adapter(folder, fingerprint, content_key(files), manifest) if whole else None

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
            files = {p.relative_to(work).as_posix(): _file_digest(p) for p in sorted(work.rglob("*")) if p.is_file()}
            complete = {**manifest, "fingerprint": fingerprint, "files": files}
            _write_synced(work / _MANIFEST, json.dumps(complete, indent=2, allow_nan=False) + "\n")
            target = self.root / "adapters" / fingerprint
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # a damaged one, or `adapter` would have found it
                shutil.rmtree(target)
            os.replace(work, target)
        return Adapter(target, fingerprint, content_key(files), complete)

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
                _write_synced(temporary, text)
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


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_synced(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
