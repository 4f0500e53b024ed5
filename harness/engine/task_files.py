"""Capability tasks as files: lm-eval's YAML beside its JSONL data, read without lm-eval.

yaml.safe_load refuses lm-eval's `!function`, which would run code on load. Data is read from disk on every
run: the cache of `datasets` does not notice an edit that keeps a file's size and time of change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import CapabilityError

__all__ = ["TaskFile", "find_task"]


@dataclass(frozen=True, slots=True)
class TaskFile:
    """config: as in the YAML. rows: split -> its documents. digest: sha256 over the contents of all files."""

    config: Mapping[str, Any]
    rows: Mapping[str, tuple[dict[str, Any], ...]]
    digest: str


def find_task(name: str, folder: Path | None) -> TaskFile | None:
    """The task file <folder>/<name>.yaml with its data, or None where there is no such file.

    Raises CapabilityError for a file that the harness does not run.
    """
    path = folder / f"{name}.yaml" if folder is not None else None
    if path is None or not path.is_file():
        return None
    try:
        text = path.read_bytes()
        config = yaml.safe_load(text.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise CapabilityError(
            f"{path}: not a task file that the harness runs ({line}). Use plain YAML; !function is refused."
        ) from None
    if not isinstance(config, dict) or config.get("task") != name:
        raise CapabilityError(f"{path}: `task: {name}` is expected, as the file is named.")
    if config.get("dataset_path") != "json":
        raise CapabilityError(f"{path}: dataset_path must be json, with data_files beside the task file.")
    arguments = config.get("dataset_kwargs")
    files = arguments.get("data_files") if isinstance(arguments, dict) else None
    if not isinstance(files, dict) or not files:
        raise CapabilityError(f"{path}: dataset_kwargs.data_files must map a split to a file, e.g. test: data.jsonl.")
    total = hashlib.sha256(text)
    rows = {}
    for split, file_name in files.items():
        file = path.parent / str(file_name)
        content = _read(file, path)
        total.update(content)
        rows[str(split)] = _documents(content, file)
    return TaskFile(config, rows, total.hexdigest())


def _read(file: Path, task: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CapabilityError(f"{file}: {error.strerror}; data_files of {task} names it.") from None


def _documents(content: bytes, file: Path) -> tuple[dict[str, Any], ...]:
    documents = []
    lines: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            document = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CapabilityError(f"{file}:{number}: not JSON: {error}.") from None
        if not isinstance(document, dict):
            raise CapabilityError(f"{file}:{number}: an object is expected, got {type(document).__name__}.")
        if "id" in document:  # items are told apart by it: of two with the same, one would be lost
            identity = str(document["id"])
            if lines.setdefault(identity, number) != number:
                raise CapabilityError(
                    f"{file}:{number}: id {json.dumps(document['id'])} is also that of line {lines[identity]}; "
                    "give each item an id of its own."
                )
        documents.append(document)
    if not documents:
        raise CapabilityError(f"{file}: the file is empty.")
    return tuple(documents)
