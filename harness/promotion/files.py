"""Whether a directory holds exactly the files that were promoted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ATTESTATION", "differences", "digests_of", "find_attestation"]

ATTESTATION = "attestation.json"

# What may be added to a promoted adapter: nothing that loads a model reads these.
_MAY_BE_ADDED = frozenset({ATTESTATION, "README.md", ".gitattributes"})


def digests_of(folder: Path, names: Mapping[str, object]) -> dict[str, str]:
    """name -> sha256 of these files. Raises OSError for one that cannot be read."""
    return {name: _digest(folder / name) for name in names}


def differences(folder: Path, files: Mapping[str, str], *, added: bool = False) -> tuple[str, ...]:
    """How a directory differs from the promoted files, one clause each.

    files: name -> sha256. A file more is a difference too, since a loader may prefer it: but for the attestation, a
    README.md and a .gitattributes. added: whether other files may be there too. Raises OSError if one cannot be read.
    """
    wrong = []
    for name, digest in sorted(files.items()):
        try:
            found = _digest(folder / name)
        except (FileNotFoundError, NotADirectoryError):
            wrong.append(f"{name} is missing")
            continue
        if found != digest:
            wrong.append(f"{name} has sha256 {found[:12]} and was promoted with {digest[:12]}")
    if added:
        return tuple(wrong)
    more = [name for name in _names(folder) if name not in files and name not in _MAY_BE_ADDED]
    return (*wrong, *(f"{name} was not promoted" for name in more))


def find_attestation(folder: Path) -> Path | None:
    """In the directory or beside it, as the registry has it."""
    places = (folder / ATTESTATION, folder.absolute().parent / ATTESTATION)
    return next((place for place in places if place.is_file()), None)


def _names(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        # A link to a folder is not walked into, and counts as a file that was not promoted.
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [Path(place, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(found)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
