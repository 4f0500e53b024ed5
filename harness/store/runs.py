"""The record of every run, kept with the adapters: a report's folder can be edited or deleted.

    <root>/runs/<run id>/report.json      the run, as harness.report.report_json writes it
                         scores.json      the scores of every example, by recipe, measure and view
                         manifest.json    the run's id and the sha256 of both; written last

A record is made under a temporary name and renamed, and is never changed or replaced afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.durable import sync_folder, write_synced
from harness.errors import StoreError
from harness.records import Scores
from harness.store.artifacts import Store, content_key
from harness.store.scores_form import read_scores, scores_json

__all__ = ["LATEST", "StoredRun", "find_run", "keep_run", "list_runs", "read_run"]

LATEST = "latest"
_RUNS = "runs"
_REPORT = "report.json"
_SCORES = "scores.json"
_MANIFEST = "manifest.json"
_FORM = 1
# Ids sort by time, so what else lies in the folder (a copy of a record, say) must not look like the latest run.
_RUN_ID = re.compile(r"\d{8}-\d{6}-[A-Za-z0-9-]{1,64}")
_SHOWN = 3


@dataclass(frozen=True)
class StoredRun:
    """A run's record whose files have the digests of its manifest.

    report_text: for harness.report.read_report. digest: sha256 over the run's id and the digests of its files.
    """

    run_id: str
    folder: Path
    report_text: str
    scores_text: str
    digest: str

    @cached_property
    def scores(self) -> Mapping[str, tuple[Scores, ...]]:
        """Recipe -> the scores of each measure on each view that was measured, parsed on first use.

        Raises StoreError if they are of another version of the harness.
        """
        try:
            return read_scores(self.scores_text)
        except StoreError as error:
            raise StoreError(f"{self.folder / _SCORES}: {error}") from None


def keep_run(root: Path, run_id: str, report: str, scores: Mapping[str, Iterable[Scores]]) -> Path:
    """Record a run in the store below `root`, and give the record's folder.

    report: the text of harness.report.report_json. scores: recipe -> its scores.
    Raises StoreError if it cannot be written, or if there is a run of this id already.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise StoreError(f"{run_id!r} cannot be the id of a run; an id is time and process, e.g. 20261123-140700-4711")
    target = root / _RUNS / run_id
    files = {_REPORT: report, _SCORES: scores_json(scores)}
    manifest = {"form": _FORM, "run_id": run_id, "files": {name: _digest(text) for name, text in files.items()}}
    try:
        with Store(root).work_folder() as work:
            record = work / run_id  # of its own, since nobody else can enter a work folder
            record.mkdir()
            for name, text in {**files, _MANIFEST: json.dumps(manifest, indent=2) + "\n"}.items():
                write_synced(record / name, text)
            sync_folder(record)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(record, target)  # fails where there is such a run: a record is never replaced
            sync_folder(target.parent)
    except OSError as error:
        if target.exists():
            raise StoreError(
                f"{target}: there is a run of this id already, and a record is never replaced; run again"
            ) from error
        raise StoreError(
            f"{target}: the run cannot be recorded ({error.strerror or error}). Make the store writable, or choose "
            "another one with --harness-store."
        ) from error
    return target


def list_runs(root: Path) -> tuple[str, ...]:
    """The ids of the recorded runs, newest first: ids begin with the time."""
    try:
        with os.scandir(root / _RUNS) as entries:
            names = [entry.name for entry in entries if _RUN_ID.fullmatch(entry.name) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise StoreError(
            f"{root / _RUNS}: the runs cannot be listed ({error.strerror or error}); check its permissions"
        ) from error
    return tuple(sorted(names, reverse=True))


def read_run(root: Path, run: str) -> StoredRun:
    """A recorded run, checked against its manifest.

    run: an id, the beginning of one, or "latest". Raises StoreError if there is no such run, several begin like
    this, or a file is not what the run wrote.
    """
    run_id = find_run(root, run)
    folder = root / _RUNS / run_id
    try:
        manifest = _manifest(folder)
        files = dict(manifest["files"])
        known = manifest["form"] == _FORM and manifest["run_id"] == run_id and files.keys() == {_REPORT, _SCORES}
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise StoreError(
            f"{folder / _MANIFEST}: is not the manifest of this run as the harness writes it; the record proves "
            "nothing, so run the suites again"
        )
    texts = {name: _checked(folder / name, digest) for name, digest in files.items()}
    digest = content_key({"run_id": run_id, "files": files})
    return StoredRun(run_id, folder, texts[_REPORT], texts[_SCORES], digest)


def find_run(root: Path, run: str) -> str:
    """The id of the recorded run that `run` names, as for read_run. Raises StoreError if that is not one run."""
    if _RUN_ID.fullmatch(run) and (root / _RUNS / run).is_dir():
        return run
    runs = list_runs(root)
    if not runs:
        raise StoreError(f"{root}: no run is recorded there; run `pytest suites/` first, or name another store")
    if run == LATEST:
        return runs[0]
    matching = [name for name in runs if run and name.startswith(run)]
    if len(matching) == 1:
        return matching[0]
    shown = ", ".join((matching or runs)[:_SHOWN])
    if matching:
        raise StoreError(f"{root}: {len(matching)} runs begin with {run!r}, the newest {shown}; write more of the id")
    raise StoreError(f"{root}: there is no run {run!r}; the newest are {shown}. `harness runs` lists them.")


def _manifest(folder: Path) -> Any:
    try:
        return json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(folder / _MANIFEST, error) from error


def _checked(file: Path, digest: str) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise StoreError(
            f"{file}: its sha256 is not that of the run's manifest, so it was changed after the run; run the suites "
            "again"
        )
    return content.decode("utf-8", "backslashreplace")


def _unreadable(file: Path, error: OSError) -> StoreError:
    return StoreError(f"{file}: cannot be read ({error.strerror or error}); run the suites again")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
