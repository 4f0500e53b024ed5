"""An index of the recorded runs in SQLite, so that lists and trends need not read every record.

Only an index: what it says of a run comes from the run's record, and it is made again where it is lost, damaged or
of another version of the harness.

    <root>/runs.sqlite    the database, and after it the sha256 of it (32 bytes, which SQLite does not look at)

It is read whole into memory and, when a run is new or gone, written whole to another name and renamed. So a reader
never sees half of it, no lock is needed, also over a network, and of two processes that write at once the last wins:
what it lacks is added the next time. A store that cannot be written has its index in memory only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import HarnessError
from harness.store.runs import StoredRun, list_runs, read_run

__all__ = ["Point", "RecipeEntry", "RunEntry", "RunIndex", "ValueEntry"]

_FILE = "runs.sqlite"
_VERSION = 1  # raised with each change of the tables, or of what their values mean
_DIGEST_BYTES = 32
_TABLES = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, digest TEXT, started_at TEXT, seconds REAL, outcome TEXT, git_commit TEXT, dirty INTEGER
);
CREATE TABLE recipes (
    run_id TEXT, place INTEGER, name TEXT, outcome TEXT, adapter_digest TEXT, gates INTEGER, passed INTEGER,
    PRIMARY KEY (run_id, name)
) WITHOUT ROWID;
CREATE TABLE figures (
    recipe TEXT, name TEXT, view TEXT, kind TEXT, run_id TEXT, value REAL, low REAL, high REAL, n INTEGER,
    outcome TEXT, bar REAL,
    PRIMARY KEY (recipe, name, view, kind, run_id)
) WITHOUT ROWID;
"""


class ValueEntry(NamedTuple):
    """A measure of a run on a view, or a gate by its id.

    kind: "difference" is a gate that compares: value, low and high are the difference, and bar is the margin as one.
    Else bar is the threshold, of a measure that which a gate sets for it. outcome: of a gate.
    """

    kind: Literal["measure", "gate", "difference"]
    name: str
    view: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    outcome: str | None = None
    bar: float | None = None


@dataclass(frozen=True, slots=True)
class RecipeEntry:
    """How a recipe did in a run. gates, passed: how many gates were decided, and how many of them passed."""

    name: str
    outcome: str
    adapter_digest: str | None
    gates: int
    passed: int
    values: tuple[ValueEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run as lists show it; what `RunIndex.runs` gives has no values."""

    run_id: str
    digest: str
    started_at: str
    seconds: float
    outcome: str
    commit: str | None
    dirty: bool | None
    recipes: tuple[RecipeEntry, ...]


class Point(NamedTuple):
    """A measure or gate of one run, and the adapter that it was measured on."""

    run_id: str
    started_at: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    outcome: str | None
    bar: float | None
    adapter_digest: str | None


class RunIndex:
    """The index of the runs in the store below `root`, as of now.

    entry_of: what the index says of a recorded run; a HarnessError of it leaves the run out.
    problems: why runs are not in it, one line each; they are tried again the next time.
    """

    def __init__(self, root: Path, entry_of: Callable[[StoredRun], RunEntry]) -> None:
        self._root = root
        self._database = _loaded(root / _FILE) or _empty()
        self.problems: list[str] = []
        if self._follow(entry_of):
            with contextlib.suppress(OSError):  # then it is made anew each time, which costs only time
                _save(self._database, root / _FILE)

    def _follow(self, entry_of: Callable[[StoredRun], RunEntry]) -> bool:
        """Add the runs that are new and drop those that are gone; whether there were any."""
        known = {run_id for (run_id,) in self._database.execute("SELECT run_id FROM runs")}
        recorded = set(list_runs(self._root))
        for run_id in known - recorded:
            for table in ("runs", "recipes", "figures"):
                self._database.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
        added = False
        for run_id in sorted(recorded - known):
            try:
                entry = entry_of(read_run(self._root, run_id))
            except HarnessError as error:
                self.problems.append(str(error))
                continue
            self._add(entry)
            added = True
        self._database.commit()
        return added or bool(known - recorded)

    def _add(self, entry: RunEntry) -> None:
        execute, many = self._database.execute, self._database.executemany
        facts = (entry.run_id, entry.digest, entry.started_at, entry.seconds, entry.outcome, entry.commit, entry.dirty)
        execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", facts)
        for place, recipe in enumerate(entry.recipes):
            counts = (recipe.outcome, recipe.adapter_digest, recipe.gates, recipe.passed)
            execute("INSERT INTO recipes VALUES (?, ?, ?, ?, ?, ?, ?)", (entry.run_id, place, recipe.name, *counts))
            rows = (
                (recipe.name, v.name, v.view, v.kind, entry.run_id, v.value, v.low, v.high, v.n, v.outcome, v.bar)
                for v in recipe.values
            )
            many("INSERT INTO figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def runs(self, *, recipe: str | None = None, limit: int | None = None) -> list[RunEntry]:
        """The runs, newest first, at most `limit`; with `recipe`, those that had it."""
        chosen = "" if recipe is None else "WHERE run_id IN (SELECT run_id FROM recipes WHERE name = ?)"
        rows = self._database.execute(
            f"SELECT * FROM runs {chosen} ORDER BY run_id DESC LIMIT ?",
            (*([] if recipe is None else [recipe]), -1 if limit is None else limit),
        ).fetchall()
        return [
            RunEntry(
                run_id,
                digest,
                started_at,
                seconds,
                outcome,
                commit,
                None if dirty is None else bool(dirty),
                self._recipes(run_id),
            )
            for run_id, digest, started_at, seconds, outcome, commit, dirty in rows
        ]

    def _recipes(self, run_id: str) -> tuple[RecipeEntry, ...]:
        rows = self._database.execute(
            "SELECT name, outcome, adapter_digest, gates, passed FROM recipes WHERE run_id = ? ORDER BY place",
            (run_id,),
        )
        return tuple(RecipeEntry(*row) for row in rows)

    def recipe_names(self) -> list[str]:
        """The recipes that any run had."""
        return [name for (name,) in self._database.execute("SELECT DISTINCT name FROM recipes ORDER BY name")]

    def figures(self, recipe: str) -> list[tuple[str, str, str]]:
        """Kind, name and view of what runs of a recipe measured or decided."""
        return self._database.execute(
            "SELECT DISTINCT kind, name, view FROM figures WHERE recipe = ? ORDER BY name, view, kind", (recipe,)
        ).fetchall()

    def trend(self, recipe: str, name: str, *, kind: str, view: str, limit: int | None = None) -> list[Point]:
        """A measure or gate over the runs, oldest first, at most the `limit` newest."""
        rows = self._database.execute(
            "SELECT run_id, started_at, value, low, high, n, figures.outcome, bar, adapter_digest FROM figures "
            "JOIN runs USING (run_id) JOIN recipes USING (run_id) "
            "WHERE recipe = ? AND recipes.name = recipe AND figures.name = ? AND kind = ? AND view = ? "
            "ORDER BY run_id DESC LIMIT ?",
            (recipe, name, kind, view, -1 if limit is None else limit),
        )
        return [Point(*row) for row in rows][::-1]


def _empty() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.executescript(_TABLES)
    database.execute(f"PRAGMA user_version = {_VERSION}")
    return database


def _loaded(file: Path) -> sqlite3.Connection | None:
    """The database in `file`, or None where it has to be made anew."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(content)
        (version,) = database.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError:
        version = None
    if version == _VERSION:
        return database
    database.close()
    return None


def _save(database: sqlite3.Connection, file: Path) -> None:
    content = database.serialize()
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.write_bytes(content + hashlib.sha256(content).digest())
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
