"""Trackers in processes of their own, so that none of them can hold up, break or colour a run.

A tracking library retries for minutes, starts services and threads, prints, and calls sys.exit. Here it has a
process group and a deadline; what it says is one line, and what it does ends with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.records import Run
from harness.tracking.facts import AliasMove, tracked_recipes
from harness.tracking.settings import TrackingSettings

__all__ = ["Note", "follow_promotion", "track_run"]

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_REQUEST = "request.json"
_LONGEST_NOTE = 500
_SHORTEST_SECRET = 6


class Note(NamedTuple):
    """How one tracker took it. text: one line; where ok, where the copy is."""

    tracker: str
    ok: bool
    text: str


def track_run(
    run: Run,
    files: Sequence[Path],
    settings: TrackingSettings,
    *,
    folder: Path,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Note, ...]:
    """Give a run and the files of its report to every tracker. Never raises: a Note says what went wrong.

    folder: where the trackers work, and where W&B keeps what it has not sent.
    """
    content = {
        "recipes": [dataclasses.asdict(recipe) for recipe in tracked_recipes(run)],
        "files": [str(file) for file in files],
        "started_at": run.started_at,
        "duration_seconds": run.duration_seconds,
    }
    return _dispatch("run", content, settings, folder, environ)


def follow_promotion(
    promotion: AliasMove,
    settings: TrackingSettings,
    *,
    folder: Path,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Note, ...]:
    """Move the trackers' alias to where the registry's is, after it moved. Never raises, as track_run."""
    if not promotion.adapter.is_dir():  # MLflow would register a version without files
        gone = f"{promotion.adapter}: the adapter's folder is not there"
        return tuple(Note(name, False, gone) for name in settings.trackers)
    content = {
        **dataclasses.asdict(promotion),
        "adapter": str(promotion.adapter),
        "attestation": None if promotion.attestation is None else str(promotion.attestation),
    }
    return _dispatch("promotion", content, settings, folder, environ)


def _dispatch(
    kind: str, content: Mapping[str, Any], settings: TrackingSettings, folder: Path, environ: Mapping[str, str]
) -> tuple[Note, ...]:
    if not settings.trackers:
        return ()
    deadline = time.monotonic() + settings.timeout
    notes: list[Note] = []
    with contextlib.ExitStack() as stack:
        try:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-tracking-")))
            request = json.dumps({"timeout": settings.timeout, kind: content})
            (work / _REQUEST).write_text(request, encoding="utf-8")
            started = [(name, _start(stack, name, work, folder, environ)) for name in settings.trackers]
            for name, process in started:
                notes.append(_note(name, process, work, deadline, settings.timeout))
        except KeyboardInterrupt:
            notes += [Note(name, False, "interrupted") for name in settings.trackers[len(notes) :]]
        except OSError as error:
            why = f"its process could not be started ({error.strerror or error})"
            notes += [Note(name, False, why) for name in settings.trackers[len(notes) :]]
    return tuple(note._replace(text=_without_secrets(note.text, environ)) for note in notes)


def _start(
    stack: contextlib.ExitStack, name: str, work: Path, folder: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with (
        (work / _REQUEST).open("rb") as request,
        (work / f"{name}.answer").open("wb") as answer,
        (work / f"{name}.complaints").open("wb") as complaints,
    ):
        # -P: a folder of the project that is called as a library, such as W&B's own wandb/, must not be imported.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.tracking", name],
            stdin=request,
            stdout=answer,
            stderr=complaints,
            cwd=folder,
            env=dict(environ),
            start_new_session=True,
        )
    stack.callback(_end, process)
    return process


def _note(name: str, process: subprocess.Popen[bytes], work: Path, deadline: float, timeout: float) -> Note:
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return Note(
            name, False, f"not done after {timeout:g} s, and stopped; raise tracking_timeout if that is too short"
        )
    try:
        said = json.loads((work / f"{name}.answer").read_bytes())
        return Note(name, bool(said["ok"]), _line(str(said["text"])))
    except (ValueError, KeyError, TypeError):
        last = (work / f"{name}.complaints").read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return Note(name, False, _line(f"its process ended with {code} and no answer{f': {last}' if last else ''}"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of the tracker's process group, services that it started included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_NOTE else f"{line[: _LONGEST_NOTE - 1]}…"


def _without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """Without passwords in addresses, and without what the environment holds as a key, token or password."""
    text = re.sub(r"(?<=//)[^/@\s]+@", "***@", text)
    for name, value in environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
