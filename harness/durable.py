"""Text and names that outlast a crash of the machine, for all that keeps records on disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["sync_folder", "write_synced"]


def write_synced(file: Path, text: str) -> None:
    """Write UTF-8 text and wait until it is on the disk. Raises OSError."""
    with file.open("wb") as stream:
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where the file system can do that; some network ones cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
