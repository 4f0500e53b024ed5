"""Files that commands write."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, text: str, *, like: Path | None = None) -> None:
    """Write under a temporary name and rename, so that a reader sees the old file or the whole new one.

    like: the file whose permissions the new one gets; without one those of a new file. Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
        if like is None:
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
        else:
            shutil.copymode(like, temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
