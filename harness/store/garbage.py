"""What a store can do without: runs, adapters and results that are neither recent nor promoted.

A result saves the time to compute it again: answers, scores of capability items, checkpoints of unfinished trainings.
What judges said is no result in this sense: it was paid for, so nothing in the store's own folder is ever freed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.errors import StoreError
from harness.store.artifacts import Store, content_key
from harness.store.index import RunEntry

__all__ = ["Freeable", "Garbage", "find_garbage", "free"]

_MANIFEST = "manifest.json"
_RESULTS = ("results", "answers")  # by kind and key
_CHECKPOINTS = "checkpoints"  # by fingerprint


class Freeable(NamedTuple):
    """A file or folder that can go. name: as people know it. used: when it was last, in seconds since the epoch."""

    path: Path
    name: str
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Garbage:
    """What can be freed, and of each kind how many stay."""

    adapters: tuple[Freeable, ...]
    results: tuple[Freeable, ...]
    runs: tuple[Freeable, ...]
    kept: Mapping[str, int]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.size for one in (*self.adapters, *self.results, *self.runs))


def find_garbage(root: Path, runs: Sequence[RunEntry], *, before: float, promoted: AbstractSet[str]) -> Garbage:
    """What in the store below `root` can be freed. Nothing is changed.

    runs: the recorded runs. before: seconds since the epoch; what was made or used since is recent.
    promoted: digests of adapters that are or were promoted.

    A run stays if it is recent, the latest of a recipe, or measured a promoted adapter; what it says is the evidence.
    An adapter stays if it is recent, promoted, or was measured by a run that stays. A result stays if it is recent.
    Recent is what was written or read, as far as the file system notes reading.
    """
    latest = _latest(runs)
    going, staying, needed = [], 0, set(promoted)
    for entry in runs:
        digests = {recipe.adapter_digest for recipe in entry.recipes if recipe.adapter_digest is not None}
        folder = root / "runs" / entry.run_id
        made = _times(folder / _MANIFEST)[0]
        if made >= before or entry.run_id in latest or digests & promoted:
            staying += 1
            needed |= digests
        else:
            going.append(Freeable(folder, entry.run_id, _size(folder), made))
    adapters, kept_adapters = _split(_adapters(root, needed), before)
    results, kept_results = _split(_results(root), before)
    kept = {"runs": staying, "adapters": kept_adapters, "results": kept_results}
    return Garbage(adapters, results, tuple(going), kept)


def free(root: Path, garbage: Garbage, *, before: float) -> int:
    """Remove it, and give the bytes that this made free. What was used in the meantime stays.

    Raises StoreError where the store cannot be written.
    """
    freed = 0
    try:
        for one in garbage.results:
            if _last_used(one.path) < before:
                freed += _remove(root, one)
        for one in garbage.adapters:
            with Store(root).adapter_lock(one.path.name):  # nobody trains it, or takes what another trained
                if _last_used(one.path) < before:
                    freed += _remove(root, one)
        for one in garbage.runs:
            freed += _remove(root, one)
    except OSError as error:
        raise StoreError(
            f"{error.filename or root}: cannot be removed ({error.strerror or error}); make the store writable"
        ) from error
    return freed


def _remove(root: Path, one: Freeable) -> int:
    """Move it away, then delete: a folder that is half deleted must not be found under its name."""
    with Store(root).work_folder() as work, contextlib.suppress(FileNotFoundError):
        os.rename(one.path, work / "freed")  # goes with the work folder
        return one.size
    return 0


def _latest(runs: Sequence[RunEntry]) -> set[str]:
    """The newest run of every recipe, which the next is compared with."""
    newest: dict[str, str] = {}
    for entry in runs:
        for recipe in entry.recipes:
            newest[recipe.name] = max(entry.run_id, newest.get(recipe.name, ""))
    return set(newest.values())


def _adapters(root: Path, needed: AbstractSet[str]) -> Iterator[Freeable | None]:
    """The adapters; None for one that is needed."""
    for folder in _entries(root / "adapters"):
        digest, name = None, ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            digest = content_key(dict(manifest["files"]))
            name = str(manifest["recipe"]["name"])
        # Without a manifest that can be read it is no adapter, and nobody will find it.
        yield None if digest in needed else Freeable(folder, name, _size(folder), _last_used(folder))


def _results(root: Path) -> Iterator[Freeable]:
    kinds = [kind for name in _RESULTS for kind in _entries(root / name)]
    for kind in (*kinds, root / _CHECKPOINTS):
        for entry in _entries(kind):
            yield Freeable(entry, kind.name, _size(entry), _last_used(entry))


def _split(found: Iterator[Freeable | None] | Iterator[Freeable], before: float) -> tuple[tuple[Freeable, ...], int]:
    going, staying = [], 0
    for one in found:
        if one is not None and one.used < before:
            going.append(one)
        else:
            staying += 1
    return tuple(going), staying


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _last_used(path: Path) -> float:
    """When a file, or any of a folder but its manifest, was written or read; looking for garbage reads manifests."""
    files = [file for file in path.rglob("*") if file.name != _MANIFEST] if path.is_dir() else [path]
    return max((max(_times(file)) for file in (path, *files) if not file.is_dir()), default=_times(path)[0])


def _times(path: Path) -> tuple[float, float]:
    """When it was written and when it was read; 0 for what is gone."""
    try:
        found = path.stat()
    except OSError:
        return 0.0, 0.0
    return found.st_mtime, found.st_atime
