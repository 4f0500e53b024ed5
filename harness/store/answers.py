"""What one model answered, example by example, for several processes at once and without a lock.

    <folder>/<sha256 of the file>.jsonl     lines [sha256 of the rest, example, value]

A file is never changed. What arrives goes into new ones, and at the end of an evaluation one file takes the place of
those that were read. It is there before they are removed, so whoever misses one of them finds it at the next look.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.store.disk import keep_text

__all__ = ["StoredAnswers"]

# At most so much of an evaluation is repeated after it was killed.
_SECONDS = 5.0
_SUFFIX = ".jsonl"


class StoredAnswers:
    """Values by example in `folder`.

    work: a folder for what is not finished, on the same file system. report: gets a line where something is damaged.
    writing: entered around every write; turns an OSError into the store's error.
    """

    def __init__(
        self,
        folder: Path,
        *,
        work: Path,
        report: Callable[[str], None],
        writing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.folder = folder
        self._work = work
        self._report = report
        self._writing = writing
        self._files: list[Path] = []

    def read(self) -> dict[str, Any]:
        """Every value that is whole. Others are reported once and taken out, so they are asked again."""
        contents: dict[Path, dict[str, Any]] = {}
        self._files = []
        while new := sorted(set(self.folder.glob(f"*{_SUFFIX}")) - contents.keys()):
            for file in new:
                contents[file] = self._content(file)
        return {example: value for file in sorted(contents) for example, value in contents[file].items()}

    @contextlib.contextmanager
    def adding(self) -> Iterator[Callable[[str, Any], None]]:
        """A function that keeps an example's value; all are on the disk at the end, and in between every 5 s.

        Values are JSON without NaN. What was added before an error is kept as well. Raises StoreError where nothing
        can be written.
        """
        waiting: dict[str, Any] = {}
        written = time.monotonic()

        def flush() -> None:
            nonlocal written
            if waiting:
                self._write(waiting)
                waiting.clear()
            written = time.monotonic()

        def add(example: str, value: Any) -> None:
            waiting[example] = value
            if time.monotonic() - written >= _SECONDS:
                flush()

        try:
            yield add
        finally:
            flush()
        self._merge()

    def _content(self, file: Path) -> dict[str, Any]:
        try:
            content = file.read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise StoreError(
                    f"{file}: cannot be read ({error.strerror}). Remove it, or give this user rights."
                ) from error
            return {}  # merged by another process, into a file that the next look finds
        if hashlib.sha256(content).hexdigest() != file.stem:
            return self._salvage(file, content)
        self._files.append(file)
        return {example: value for _, example, value in map(json.loads, content.splitlines())}

    def _salvage(self, file: Path, content: bytes) -> dict[str, Any]:
        """The lines of a damaged file that are whole, which get a file of their own in its place."""
        whole = dict(filter(None, map(_parsed, content.split(b"\n"))))
        self._report(f"{file}: damaged; {len(whole)} answers in it are whole, the others are made again")
        with contextlib.suppress(OSError, StoreError):  # a store that cannot be written is still read
            if whole:
                self._write(whole)
            file.unlink(missing_ok=True)
        return whole

    def _write(self, values: dict[str, Any]) -> None:
        text = "".join(_line(example, values[example]) for example in sorted(values))
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}{_SUFFIX}"
        with self._writing():
            keep_text(file, text, self._work)
        self._files.append(file)

    def _merge(self) -> None:
        if len(set(self._files)) < 2:
            return
        self._write(self.read())
        merged = self._files.pop()
        with self._writing():
            for file in self._files:
                if file != merged:
                    file.unlink(missing_ok=True)


def _line(example: str, value: Any) -> str:
    content = json.dumps([example, value], separators=(",", ":"), allow_nan=False)
    return f'["{hashlib.sha256(content.encode()).hexdigest()}",{content[1:]}\n'


def _parsed(line: bytes) -> tuple[str, Any] | None:
    """Example and value of a line that is as it was written."""
    content = b"[" + line[68:]
    if line[:68] != b'["' + hashlib.sha256(content).hexdigest().encode() + b'",':
        return None
    example, value = json.loads(content)
    return example, value
