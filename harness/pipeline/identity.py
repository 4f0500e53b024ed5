"""What code, libraries and machine a result came from."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import harness

__all__ = ["TRAINING_LIBRARIES", "code_digest", "command_line", "library_versions", "provenance"]

TRAINING_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
_LIBRARIES = (*TRAINING_LIBRARIES, "accelerate", "datasets", "lm_eval", "anthropic", "scikit-learn", "pytest")


@functools.cache
def code_digest(*modules: str) -> str:
    """sha256 over the code of the harness' modules, given as paths such as "engine/training.py".

    A folder stands for its modules. Comments, docstrings and layout do not count, so that an explanation does
    not cost a training.
    """
    root = Path(harness.__file__).parent
    total = hashlib.sha256()
    for module in modules:
        place = root / module
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            total.update(f"{file.relative_to(root).as_posix()}\n{ast.dump(_without_docstrings(tree))}\n".encode())
    return total.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return tree


@functools.cache
def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def library_versions(libraries: Iterable[str] = _LIBRARIES) -> dict[str, str]:
    """Installed versions, read from the packages' metadata: nothing is imported."""
    return {name: version for name in libraries if (version := _version(name)) is not None}


def provenance(root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Facts about this invocation: the only place that asks git and the machine."""
    actions = {k: environ[k] for k in ("GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_RUN_ID") if k in environ}
    return {
        "command": command_line(),
        "harness": _version("pytest-adapter-harness") or "source",
        "versions": library_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "memory_gb": _memory_gb()},
        "git": _git(root),
        "github": actions,
    }


def command_line() -> str:
    """What this process was called with, without the values of options that look like secrets."""
    return " ".join(_without_secrets(sys.argv))


def _without_secrets(arguments: list[str]) -> list[str]:
    kept = [Path(arguments[0]).name, *arguments[1:]] if arguments else []
    shown = []
    value_of_secret = False  # of an option whose value is the next argument
    for argument in kept:
        name, equals, _ = argument.partition("=")
        secret = any(word in name.lower() for word in ("key", "token", "secret", "password"))
        if secret and equals:
            shown.append(f"{name}=***")
        else:
            shown.append("***" if value_of_secret and not argument.startswith("-") else argument)
        value_of_secret = secret and not equals and argument.startswith("--")
    return shown


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _git(root: Path) -> dict[str, Any] | None:
    def ask(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}
