"""Files that are whole once they have their name: written elsewhere, on the disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.durable import write_synced

__all__ = [
    "MANIFEST",
    "DamagedError",
    "content_key",
    "file_digest",
    "keep_text",
    "read_manifest",
    "sync",
    "write_manifest",
]

MANIFEST = "manifest.json"
UNFINISHED = ".part"
# Some file systems have no fsync for a folder; renaming is all that they offer.
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


class DamagedError(Exception):
    """What is stored under a name is not what was written; the text says what is wrong."""


def content_key(content: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of `content`, which must be JSON values without NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(file: Path) -> str:
    """sha256 of the file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def keep_text(file: Path, text: str, work: Path) -> None:
    """Write `file` by way of the folder `work`, which is on the same file system: it is there whole, or not at all."""
    for folder in (work, file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    temporary = work / f"{uuid.uuid4().hex}{UNFINISHED}"
    try:
        write_synced(temporary, text)
        os.replace(temporary, file)
        sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Give a finished folder its manifest: `content`, every file's digest, and its own; what it names is on the disk.

    Returns the manifest. Its existence means that everything it names is there.
    """
    paths = sorted(folder.rglob("*"))
    files = {}
    for path in paths:
        if path.is_file():
            sync(path)
            files[path.relative_to(folder).as_posix()] = file_digest(path)
    manifest: dict[str, Any] = json.loads(json.dumps({**content, "files": files}, allow_nan=False))
    write_synced(folder / MANIFEST, _manifest_text(manifest))
    for path in (*paths, folder):
        if path.is_dir():
            sync(path)
    return manifest


def read_manifest(folder: Path, expected: Mapping[str, Any], parts: Collection[str] = ()) -> dict[str, Any] | None:
    """The manifest of a folder that is whole; None if there is no such folder.

    Raises DamagedError unless the manifest is as it was written, has the expected values, names all `parts` and at
    least one file, and every file that it names has the digest that it gives.
    """
    if not folder.exists():
        return None
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        manifest = json.loads(text)
        del manifest["digest"]
        unchanged = text == _manifest_text(manifest)
        files: dict[str, str] = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DamagedError(f"{MANIFEST} cannot be read") from None
    if not unchanged or not files:
        raise DamagedError(f"{MANIFEST} is not as it was written")
    for name, value in expected.items():
        if manifest.get(name) != value:
            raise DamagedError(f"{MANIFEST} is of another {name}")
    missing = sorted(set(parts) - files.keys())
    if missing:
        raise DamagedError(f"{missing[0]} was never in it")
    for name, digest in files.items():
        try:
            found = file_digest(folder / name)
        except OSError:
            raise DamagedError(f"{name} cannot be read") from None
        if found != digest:
            raise DamagedError(f"{name} is not as it was written")
    return dict(manifest)


def _manifest_text(manifest: Mapping[str, Any]) -> str:
    return json.dumps({**manifest, "digest": content_key(manifest)}, indent=2, allow_nan=False) + "\n"
