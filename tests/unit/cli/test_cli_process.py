"""The command as a process: what it imports, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import harness.cli.entry
from harness.errors import StoreError

Harness = Callable[..., tuple[int, str, str]]

PROGRAM = """
import json, sys
from harness.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump({"code": code, "modules": sorted({name.split(".")[0] for name in sys.modules})}, file)
"""
COMMAND = [sys.executable, "-m", "harness.cli"]
ROOT = Path(harness.cli.entry.__file__).resolve().parents[2]
# What a run needs, and no command does.
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "lm_eval",
    "sklearn",
}
# What only some commands need.
NOT_FOR_HELP = HEAVY | {"numpy", "scipy", "pandas", "pydantic", "yaml", "jinja2", "anthropic", "filelock"}


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # Buffered, as for a user, whatever the machine that runs the tests sets.
    return {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": path, **more}


def imported(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, set[str], str]:
    """Exit code, the modules that were imported, and stderr."""
    result = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(result), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environment(**variables),
    )
    found = json.loads(result.read_text())
    return found["code"], set(found["modules"]), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["recipe", "show", "--help"], ["--version"], ["report", "nothing"]])
def test_help_is_light(project: Path, tmp_path: Path, arguments: list[str]) -> None:
    code, modules, _ = imported(tmp_path, *arguments)
    assert code == (2 if arguments == ["report", "nothing"] else 0)
    assert "argparse" in modules
    assert modules & NOT_FOR_HELP == set()


def test_checking_recipes_is_light(project: Path, tmp_path: Path) -> None:
    code, modules, _ = imported(tmp_path, "recipe", "check")
    assert code == 0
    assert "pydantic" in modules  # recipes were read
    assert modules & (HEAVY | {"numpy", "scipy", "jinja2"}) == set()


class _Hub(BaseHTTPRequestHandler):
    asked: list[str]

    def _refuse(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    do_GET = do_HEAD = _refuse

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[HTTPServer]:
    """A Hugging Face hub that has no model and notes what it is asked."""
    _Hub.asked = []
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_showing_a_recipe_downloads_nothing_and_needs_no_torch(project: Path, tmp_path: Path, hub: HTTPServer) -> None:
    recipe = project / "fixtures" / "recipes" / "tickets.yaml"
    recipe.write_text(recipe.read_text().replace("../base", "someone/a-model"))
    code, modules, err = imported(
        tmp_path,
        "recipe",
        "show",
        "tickets",
        HF_HOME=str(tmp_path / "hf"),
        HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}",
        HF_HUB_OFFLINE="0",
    )
    assert code == 1
    assert "The base model someone/a-model is not in the local cache" in err
    assert err.count("\n") == 1
    assert _Hub.asked == []
    assert modules & HEAVY == set()
    assert "huggingface_hub" in modules  # it did look in the cache


# More than Python buffers, which fails when it is written, and less, which fails when it is flushed.
LONG_AND_SHORT = (["recipe", "schema"], ["--version"])


@pytest.mark.parametrize("arguments", LONG_AND_SHORT)
def test_a_closed_pipe(project: Path, arguments: list[str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=120) == 141


@pytest.mark.parametrize("arguments", LONG_AND_SHORT)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk(project: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            env=environment(),
        )
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device; check the place and its permissions\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c(project: Path) -> None:
    data = project / "fixtures" / "data" / "train.jsonl"
    data.unlink()
    os.mkfifo(data)
    process = subprocess.Popen(
        [*COMMAND, "recipe", "show", "tickets"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell that started the tests in the background ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with data.open("w"):  # opens once the command waits for the data
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "error: the following arguments are required: COMMAND; see harness --help"),
        (["recipe"], "error: the following arguments are required: COMMAND; see harness recipe --help"),
        (
            ["recipe", "show"],
            "error: the following arguments are required: NAME; see harness recipe show --help",
        ),
        (["report", "latest", "--format", "pdf"], "error: argument --format: invalid choice: 'pdf'"),
        (["recipe", "check", "--dat"], "error: unrecognized arguments: --dat; see harness --help"),
        (["recipe", "check", "--\x1b[31m"], "error: unrecognized arguments: --␛[31m; see harness --help"),
    ],
)
def test_a_wrong_call(harness: Harness, arguments: list[str], problem: str) -> None:
    code, out, err = harness(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(problem)


def test_version(harness: Harness) -> None:
    code, out, err = harness("--version")
    assert (code, err) == (0, "")
    assert out.startswith("harness ")


def test_an_error_of_the_harness_is_one_line(project: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StoreError("the store is gone")

    monkeypatch.setattr("harness.store.Store.adapter", fails)
    assert harness("recipe", "show", "tickets") == (1, "", "error: the store is gone\n")


def test_a_folder_that_may_not_be_read(project: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    folder = project / "fixtures" / "recipes"
    assert harness("recipe", "check") == (
        1,
        "",
        f"error: {folder}: Permission denied; check the place and its permissions\n",
    )
