"""Grades, preferences and open batches in one SQLite file, safe for threads and processes, and for a kill at any time.

Write-ahead logging makes each grade that was kept whole and lasting for other processes, also where the one that wrote
it is killed. Each row has a digest over its content, so that damage costs a question and never makes a grade.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from harness.errors import StoreError
from harness.store.disk import content_key

__all__ = ["GradeStore"]

T = TypeVar("T")

_BUSY_SECONDS = 30.0
_RESULTS_KEPT = 29 * 86_400.0  # seconds that the API keeps a batch's results
_AT_ONCE = 500  # keys in one question; SQLite's limit of variables
_TABLES = """
CREATE TABLE IF NOT EXISTS grades (key TEXT PRIMARY KEY, value TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, requests TEXT NOT NULL, begun REAL NOT NULL) WITHOUT ROWID;
"""


class GradeStore:
    """file: made on first write. report: is told, in one line, of what was found damaged.

    Grades and preferences are in one table; what a key is the digest of says which it is.
    """

    def __init__(self, file: Path, report: Callable[[str], None] | None = None) -> None:
        self.file = file
        self.report = report
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def get(self, keys: Collection[str]) -> dict[str, Any]:
        """Key -> value of the keys that are there and whole."""
        if not self._exists():
            return {}
        wanted = list(dict.fromkeys(keys))
        rows: list[tuple[str, str, str]] = []
        for first in range(0, len(wanted), _AT_ONCE):
            part = wanted[first : first + _AT_ONCE]
            question = f"SELECT key, value, digest FROM grades WHERE key IN ({','.join('?' * len(part))})"
            rows += self._do(lambda c, q=question, p=part: c.execute(q, p).fetchall())  # type: ignore[misc]
        found, damaged = {}, []
        for key, text, digest in rows:
            try:
                value = json.loads(text)
                whole = digest == content_key({"key": key, "value": value})
            except (TypeError, ValueError):
                whole = False
            if whole:
                found[key] = value
            else:
                damaged.append(key)
        if damaged:
            self._say(f"{self.file}: {_grades(len(damaged))} damaged and not used; the judge is asked again")
        return found

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a value. Raises StoreError where it is not finite JSON, or the disk does not take it."""
        try:
            text = json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise StoreError(f"{self.file}: a grade that is not finite cannot be stored ({error})") from error
        row = (key, text, content_key({"key": key, "value": json.loads(text)}))
        self._do(lambda c: c.execute("INSERT OR REPLACE INTO grades VALUES (?, ?, ?)", row))

    def open_batches(self) -> list[tuple[str, Collection[str]]]:
        """Each batch's id and its requests, the oldest first; none whose results are no longer to be had."""
        if not self._exists():
            return []
        question = "SELECT id, requests FROM batches WHERE begun > ? ORDER BY begun"
        rows = self._do(lambda c: c.execute(question, (time.time() - _RESULTS_KEPT,)).fetchall())
        found: list[tuple[str, Collection[str]]] = []
        for batch, text in rows:
            with contextlib.suppress(TypeError, ValueError):
                found.append((batch, frozenset(json.loads(text))))
        return found

    def keep_batch(self, batch: str, requests: Collection[str]) -> None:
        """Remember a batch that was sent, before anything else is done with it."""
        row = (batch, json.dumps(sorted(requests)), time.time())
        self._do(lambda c: c.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", row))

    def end_batch(self, batch: str) -> None:
        """Forget a batch whose results were taken."""
        self._do(lambda c: c.execute("DELETE FROM batches WHERE id = ?", (batch,)))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _exists(self) -> bool:
        return self._connection is not None or self.file.exists()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do one thing with the file; where it turns out to be damaged, with a new one in its place."""
        with self._lock:
            try:
                return self._try(work)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                    raise self._unusable(error) from error
                self._set_aside(str(error))
            try:
                return self._try(work)
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._opened()
        return work(self._connection)

    def _opened(self) -> sqlite3.Connection:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.file.parent}: cannot be written ({error.strerror}). Choose another folder with --harness-store."
            ) from error
        if self.file.exists() and not all(os.access(place, os.W_OK) for place in (self.file, self.file.parent)):
            # With write-ahead logging SQLite makes files beside the one that it reads, unless told that nobody writes.
            place = f"{self.file.absolute().as_uri()}?immutable=1"
            return sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)
        # Each statement is a transaction of its own.
        connection = sqlite3.connect(self.file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Lasting against a kill, though not against a power cut, which costs the last grades and not the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_TABLES)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, why: str) -> None:
        """Give a damaged file another name, unless another process has done so already."""
        self.close()
        with self._one_process():
            if self._is_whole():
                return
            aside = self.file.with_name(f"{self.file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.file}{suffix}", f"{aside}{suffix}")
        self._say(f"{self.file}: damaged ({why}); kept as {aside.name}, and begun anew: the judge is asked again")

    def _is_whole(self) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(self.file, timeout=_BUSY_SECONDS)) as connection:
                (found,) = connection.execute("PRAGMA quick_check").fetchone()
                return bool(found == "ok")
        except sqlite3.DatabaseError:
            return False

    @contextlib.contextmanager
    def _one_process(self) -> Iterator[None]:
        with FileLock(f"{self.file}.lock"):
            yield

    def _unusable(self, error: sqlite3.Error) -> StoreError:
        return StoreError(
            f"{self.file}: cannot be used ({error}). Make room or give rights, or choose another folder with "
            "--harness-store."
        )

    def _say(self, line: str) -> None:
        if self.report is not None:
            self.report(line)


def _is_damage(error: sqlite3.OperationalError) -> bool:
    """Whether the file is wrong, and not the disk, the rights or the moment."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such column" in str(error)


def _grades(count: int) -> str:
    return "1 grade is" if count == 1 else f"{count} grades are"
