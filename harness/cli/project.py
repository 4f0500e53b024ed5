"""Where the project is and which folders it chose, found as pytest finds it but without pytest.

The commands and `pytest suites/` must speak of the same recipes and the same store. So configuration files
are looked for by pytest's rules, and a folder is chosen by environment, then ini key, then default, as the
plugin does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.cli.usage import CommandError

__all__ = ["FOLDERS", "Project", "find_project"]

# Folder -> the rest of its ini key harness_* and its environment variable HARNESS_*, and the default.
FOLDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "recipes": ("recipes", "fixtures/recipes"),
        "capability": ("capability", "fixtures/capability"),
        "rubrics": ("rubrics", "fixtures/rubrics"),
        "store": ("store", ".harness"),
        "reports": ("report_dir", "reports"),
    }
)

# pytest takes the first of these that holds its configuration; the first four are its own even if empty.
_FILES = (
    "pytest.toml",
    ".pytest.toml",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
)


@dataclass(frozen=True, slots=True)
class Project:
    """root: pytest's rootdir. file: where the ini values stand, or None."""

    root: Path
    file: Path | None = None
    ini: Mapping[str, Any] = field(default_factory=dict)

    def folder(self, name: str, environ: Mapping[str, str] = os.environ) -> Path:
        """The folder `name` of FOLDERS. Raises CommandError if its ini value is not a text."""
        key, default = FOLDERS[name]
        chosen = environ.get(f"HARNESS_{key.upper()}") or self.ini.get(f"harness_{key}") or default
        if not isinstance(chosen, str):
            raise CommandError(f"{self.file}: harness_{key} must be one folder, got {chosen!r}; write it as a text")
        return self.root / Path(chosen).expanduser()

    def recipes_folder(self) -> Path:
        """The recipes' folder. Raises CommandError if it is absent."""
        folder = self.folder("recipes")
        if not folder.is_dir():
            found = "is not a folder" if folder.exists() else "does not exist"
            raise CommandError(
                f"the recipes' folder {folder} {found}; go to your project's folder, or set harness_recipes "
                "in its pytest.ini or pyproject.toml"
            )
        return folder


def find_project(start: Path) -> Project:
    """The project that the folder `start` is in: pytest's rootdir if pytest were started there.

    Raises CommandError for a configuration file that cannot be read.
    """
    start = Path(os.path.abspath(start))
    folders = (start, *start.parents)
    for folder in folders:
        for name in _FILES:
            file = folder / name
            values = _values(file) if file.is_file() else None
            if values is not None:
                return Project(folder, file, values)
    # Without pytest's configuration, a pyproject.toml still marks a root, and else a setup.py.
    for marker in ("pyproject.toml", "setup.py"):
        root = _first_with(marker, folders)
        if root is not None:
            return Project(root)
    return Project(start)


def _first_with(name: str, folders: Iterable[Path]) -> Path | None:
    return next((folder for folder in folders if (folder / name).is_file()), None)


def _values(file: Path) -> Mapping[str, Any] | None:
    """pytest's values in a file, or None if it is not pytest's."""
    try:
        found = _toml(file) if file.suffix == ".toml" else _ini(file)
    except (OSError, ValueError) as error:  # both parsers' errors are ValueErrors, or made so below
        raise CommandError(f"{file}: cannot be read as configuration ({error}); correct it") from None
    own = file.name.lstrip(".").startswith("pytest.")
    return {} if found is None and own else found


def _toml(file: Path) -> Mapping[str, Any] | None:
    import tomllib

    document = tomllib.loads(file.read_text(encoding="utf-8"))
    if file.name != "pyproject.toml":
        return _table(document.get("pytest"))
    tool = _table(document.get("tool")) or {}
    native = _table(tool.get("pytest"))
    if native is None:
        return None
    options = _table(native.get("ini_options"))
    return options if options is not None else (native or None)


def _table(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _ini(file: Path) -> Mapping[str, Any] | None:
    # pytest's own parser, which comes with it: comments and continued lines are then read alike.
    from iniconfig import IniConfig, ParseError

    try:
        parsed = IniConfig(str(file))
    except ParseError as error:
        raise ValueError(str(error)) from None
    section = "tool:pytest" if file.name == "setup.cfg" else "pytest"
    return dict(parsed[section].items()) if section in parsed else None
