"""A tracker that is down, slow, absent or broken is a note, and nothing else. Each test starts real processes."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_runs

from harness.tracking import AliasMove, Note, TrackingSettings, follow_promotion, track_run


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def library(folder: Path, name: str, text: str) -> dict[str, str]:
    """An environment in which the library `name` is only this text."""
    (folder / "libraries").mkdir()
    (folder / "libraries" / f"{name}.py").write_text(text, encoding="utf-8")
    return environment(PYTHONPATH=str(folder / "libraries"))


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "WANDB_"))}
    places = os.pathsep.join([more.pop("PYTHONPATH", ""), kept.pop("PYTHONPATH", "")])
    # An empty entry would be the current folder.
    return {**kept, **more, "PYTHONPATH": os.pathsep.join(filter(None, places.split(os.pathsep)))}


def track(folder: Path, *names: str, environ: dict[str, str], timeout: float = 30.0) -> tuple[Note, ...]:
    return track_run(report_runs.run(), [], TrackingSettings(names, timeout), folder=folder, environ=environ)


def test_no_tracker_starts_no_process(tmp_path: Path) -> None:
    assert track(tmp_path / "nowhere", environ={}) == ()


def test_a_server_that_is_down(tmp_path: Path, closed_port: str) -> None:
    environ = environment(MLFLOW_TRACKING_URI=f"http://someone:s3cr3t-pass@{closed_port}")
    (note,) = track(tmp_path, "mlflow", environ=environ)
    assert not note.ok
    assert "Connection refused" in note.text
    assert "s3cr3t" not in note.text
    assert "\n" not in note.text


def test_a_server_that_is_slow_is_left_at_the_deadline(tmp_path: Path, silent_server: str) -> None:
    started = time.monotonic()
    environ = environment(MLFLOW_TRACKING_URI=silent_server)
    assert track(tmp_path, "mlflow", environ=environ, timeout=2.5) == (
        Note("mlflow", False, "not done after 2.5 s, and stopped; raise tracking_timeout if that is too short"),
    )
    assert time.monotonic() - started < 10


def test_a_server_without_an_address(tmp_path: Path) -> None:
    assert track(tmp_path, "mlflow", environ=environment()) == (
        Note("mlflow", False, "MLFLOW_TRACKING_URI is not set; set it to the address of your tracking server"),
    )


def test_wandb_without_a_key(tmp_path: Path) -> None:
    environ = environment(WANDB_BASE_URL="http://127.0.0.1:9", HOME=str(tmp_path), NETRC=str(tmp_path / "none"))
    (note,) = track(tmp_path, "wandb", environ=environ)
    assert not note.ok
    assert "API key" in note.text


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_library_that_is_not_installed(tmp_path: Path, name: str) -> None:
    environ = library(tmp_path, name, f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')")
    environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    text = f"not installed (No module named '{name}'); install it with `pip install 'pytest-adapter-harness[{name}]'`"
    assert track(tmp_path, name, environ=environ) == (Note(name, False, text),)
    moved = AliasMove("invoices", "production", "20261123-140712-a4f1", "ad" * 32, tmp_path)
    assert follow_promotion(moved, TrackingSettings((name,)), folder=tmp_path, environ=environ) == (
        Note(name, False, text),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import os, sys; print('noise'); sys.stderr.write('first\\nlast words\\n'); sys.stderr.flush(); os._exit(7)",
         "its process ended with 7 and no answer: last words"),
        ("import os; os.kill(os.getpid(), 9)", "its process ended with -9 and no answer"),
        ("import sys; sys.exit('I am leaving')", "I am leaving"),
        ("raise ValueError('a\\nb')", "a b"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)  # fmt: skip
def test_a_library_that_breaks(tmp_path: Path, text: str, reason: str) -> None:
    assert track(tmp_path, "wandb", environ=library(tmp_path, "wandb", text)) == (Note("wandb", False, reason),)


def test_secrets_of_the_environment_are_not_repeated(tmp_path: Path) -> None:
    environ = library(tmp_path, "wandb", "import os; raise ValueError(f\"bad key {os.environ['WANDB_API_KEY']}\")")
    environ["WANDB_API_KEY"] = "0123456789abcdef"
    assert track(tmp_path, "wandb", environ=environ) == (Note("wandb", False, "bad key ***"),)


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    (note,) = track(tmp_path, "wandb", environ=library(tmp_path, "wandb", "raise ValueError('x' * 100_000)"))
    assert note.text == f"{'x' * 499}…"


def test_what_a_library_leaves_running_ends_with_it(tmp_path: Path) -> None:
    # The child of the library writes its number, and would live for a minute.
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "raise ValueError('done')\n"
    )
    assert track(tmp_path, "wandb", environ=library(tmp_path, "wandb", code)) == (Note("wandb", False, "done"),)
    number = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _runs(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(number)


def _runs(number: int) -> bool:
    """Whether the process does anything; one that nobody has waited for yet is a zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_folder_of_the_project_is_not_taken_for_the_library(tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("raise SystemExit('this is the project')")
    (note,) = track(tmp_path, "mlflow", environ=environment(MLFLOW_TRACKING_URI="http://127.0.0.1:9"))
    assert not note.ok
    assert "this is the project" not in note.text


def test_a_process_that_cannot_be_started(tmp_path: Path) -> None:
    notes = track(tmp_path / "nowhere", "mlflow", "wandb", environ=environment())
    assert notes == tuple(
        Note(name, False, "its process could not be started (No such file or directory)")
        for name in ("mlflow", "wandb")
    )
