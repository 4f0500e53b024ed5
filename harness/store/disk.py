"""Files that are whole once they have their name: written elsewhere, on the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "content_key", "file_digest", "read_manifest", "sync", "write_manifest", "write_synced"]

MANIFEST = "manifest.json"
# Some file systems have no fsync for a folder; renaming is all that they offer.
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


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


def write_synced(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Give a finished folder its manifest: `content`, and the digest of every file, all of them on the disk first.

    Returns the manifest. Its existence means that everything it names is there.
    """
    paths = sorted(folder.rglob("*"))
    files = {}
    for path in paths:
        if path.is_file():
            sync(path)
            files[path.relative_to(folder).as_posix()] = file_digest(path)
    manifest = {**content, "files": files}
    write_synced(folder / MANIFEST, json.dumps(manifest, indent=2, allow_nan=False) + "\n")
    for path in (*paths, folder):
        if path.is_dir():
            sync(path)
    return manifest


def read_manifest(folder: Path, expected: Mapping[str, Any], parts: Collection[str] = ()) -> dict[str, Any] | None:
    """The manifest of a folder that is whole, else None.

    Whole: the manifest has the expected values, it names all `parts` and at least one file, and every file that it
    names has the digest that it gives.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        if (
            all(manifest[name] == value for name, value in expected.items())
            and bool(files)
            and files.keys() >= set(parts)
            and all(file_digest(folder / name) == digest for name, digest in files.items())
        ):
            return dict(manifest)
    return None
