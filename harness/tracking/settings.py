"""Which trackers a project chose: `[tool.harness]` in the pyproject.toml of its root, or HARNESS_TRACKING."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import TrackingError

__all__ = ["TRACKERS", "TrackingSettings", "tracking_settings"]

TRACKERS = ("mlflow", "wandb")
_ENVIRONMENT = "HARNESS_TRACKING"
_KEYS = ("tracking", "tracking_timeout")
_NONE = "none"
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """trackers: of TRACKERS, each once. timeout: seconds that all of them together may take."""

    trackers: tuple[str, ...] = ()
    timeout: float = _TIMEOUT


def tracking_settings(root: Path, environ: Mapping[str, str]) -> TrackingSettings:
    """The settings of the project in `root`, where pytest's configuration is.

    HARNESS_TRACKING, names with commas or "none", goes before the file's `tracking`.
    Raises TrackingError, with the place, for a file that cannot be read, an unknown tracker, a value of the wrong
    type, and a key that looks like a misspelt one.
    """
    file = root / "pyproject.toml"
    table = _table(file)
    for key in table:
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.8)
        if near and key not in _KEYS:
            raise TrackingError(f"{file}: [tool.harness] has an unknown key {key}; did you mean {near[0]}?")
    timeout = table.get("tracking_timeout", _TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise TrackingError(
            f"{file}: [tool.harness] tracking_timeout must be seconds above 0, got {timeout!r}; 60 is the default"
        )
    chosen = environ.get(_ENVIRONMENT)
    if chosen:
        names = [name.strip() for name in chosen.split(",")]
        trackers = () if names == [_NONE] else _known(names, _ENVIRONMENT)
    else:
        listed = table.get("tracking", [])
        where = f"{file}: [tool.harness] tracking"
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise TrackingError(f'{where} must be a list of names, got {listed!r}; write ["mlflow"], for instance')
        trackers = _known(listed, where)
    return TrackingSettings(trackers, float(timeout))


def _known(names: Sequence[str], where: str) -> tuple[str, ...]:
    for name in names:
        if name not in TRACKERS:
            raise TrackingError(f"{where} names the tracker {name!r}; the trackers are {', '.join(TRACKERS)}")
    return tuple(dict.fromkeys(names))


def _table(file: Path) -> dict[str, Any]:
    """[tool.harness], empty where there is none. A file that does not speak of the harness is not parsed."""
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        found: Any = tomllib.loads(text) if "harness" in text else {}
    except (OSError, ValueError) as error:
        raise TrackingError(f"{file}: cannot be read as TOML ({error}); correct it") from None
    for key in ("tool", "harness"):
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise TrackingError(f"{file}: {key} must be a table, got {found!r}; write [tool.harness]")
    return dict(found)
