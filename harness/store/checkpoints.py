"""The checkpoints of one training, for the process that holds the lock of its adapter."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from harness.store.disk import DamagedError, read_manifest, sync, write_manifest

__all__ = ["Checkpoints"]

# The last one, and the one before in case that is damaged.
_KEPT = 2


class Checkpoints:
    """Folders <step>/ with a manifest that is written last, as an adapter's.

    report: gets a line about each that is damaged.
    """

    def __init__(self, folder: Path, fingerprint: str, report: Callable[[str], None]) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.report = report

    def latest(self, parts: Collection[str]) -> Path | None:
        """The last one that is whole and has files of these names; damaged ones are removed."""
        for folder in reversed(self._kept()):
            try:
                read_manifest(folder, self._identity(folder), parts)
            except DamagedError as damage:
                self.report(f"{folder}: this checkpoint is not used ({damage})")
                shutil.rmtree(folder, ignore_errors=True)
            else:
                return folder
        return None

    def keep(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder and keep it as the checkpoint of `step`; it and the one before it stay.

        Raises what `write` raises, and OSError; the checkpoints before it are then as they were.
        """
        target = self.folder / f"{step:08d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        work = self.folder / f".{uuid.uuid4().hex}"
        work.mkdir()
        try:
            write(work)
            write_manifest(work, self._identity(target))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(work, target)
            sync(self.folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        past = [folder for folder in self._kept() if folder.name <= target.name]
        for old in {*self._kept()} - {*past[-_KEPT:]}:  # later ones are of a course that was given up
            shutil.rmtree(old, ignore_errors=True)

    def _identity(self, folder: Path) -> dict[str, object]:
        return {"fingerprint": self.fingerprint, "step": int(folder.name)}

    def _kept(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(folder for folder in self.folder.iterdir() if folder.name.isdigit())
        return []
