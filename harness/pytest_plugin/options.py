"""Options, ini keys and environment variables, and which of them wins: option, environment, ini, default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import TrackingError

if TYPE_CHECKING:
    from harness.tracking import TrackingSettings

__all__ = ["add_options", "baseline_alias_of", "device_of", "folder_of", "inconclusive_of", "tracking_of"]

_FOLDERS = {
    "store": "adapters and results that are computed once (default: .harness)",
    "report_dir": "where a run's report goes (default: reports)",
    "recipes": "recipe files (default: fixtures/recipes)",
    "capability": "capability tasks (default: fixtures/capability)",
    "rubrics": "judge rubrics (default: fixtures/rubrics)",
}
_FOLDERS_WITH_OPTION = ("store", "report_dir")
_INCONCLUSIVE = ("fail", "warn")


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "adapter harness")
    group.addoption(
        "--harness-recipe",
        action="append",
        default=[],
        metavar="NAME",
        help="run only this recipe; a glob such as 'tickets_*' is allowed, and the option may be repeated",
    )
    for name in _FOLDERS_WITH_OPTION:
        group.addoption(f"--harness-{name.replace('_', '-')}", metavar="DIR", help=_FOLDERS[name])
    group.addoption(
        "--harness-no-train",
        action="store_true",
        help="fail where an adapter is not in the store, instead of training it",
    )
    group.addoption(
        "--harness-device",
        metavar="DEVICE",
        help="cpu, cuda or cuda:N (default: the first GPU, else the CPU)",
    )
    group.addoption(
        "--harness-inconclusive",
        metavar="{fail,warn}",
        help="what an inconclusive gate does to its test: fail it (default), or let it pass with a warning; the run "
        "is inconclusive either way",
    )
    group.addoption(
        "--harness-plan",
        metavar="FILE",
        help="train and measure nothing: write to FILE what the gates can decide, as JSON; `harness plan` shows it",
    )
    for name, text in _FOLDERS.items():
        parser.addini(f"harness_{name}", text, default=None)
    parser.addini("harness_device", "cpu, cuda or cuda:N", default=None)
    parser.addini("harness_inconclusive", "fail or warn (default: fail)", default=None)
    parser.addini(
        "harness_baseline_alias", "which promoted adapter the view promoted is (default: production)", default=None
    )


def folder_of(config: pytest.Config, name: str) -> Path | None:
    """The folder that was chosen for `name`, or None for the default.

    An option is relative to where pytest was started, everything else to the ini file's folder.
    """
    option = config.getoption(f"harness_{name}", None)
    if option:
        return config.invocation_params.dir / Path(option).expanduser()
    chosen = os.environ.get(f"HARNESS_{name.upper()}") or config.getini(f"harness_{name}")
    return config.rootpath / Path(chosen).expanduser() if chosen else None


def device_of(config: pytest.Config) -> str | None:
    chosen = config.getoption("harness_device") or os.environ.get("HARNESS_DEVICE")
    return chosen or config.getini("harness_device") or None


def baseline_alias_of(config: pytest.Config) -> str | None:
    """The alias that the view promoted stands for, or None for the default. Raises pytest.UsageError for no alias."""
    for where, chosen in (
        ("HARNESS_BASELINE_ALIAS", os.environ.get("HARNESS_BASELINE_ALIAS")),
        ("harness_baseline_alias", config.getini("harness_baseline_alias")),
    ):
        if chosen:
            from harness.errors import PromotionError
            from harness.promotion import check_alias

            try:
                return check_alias(str(chosen))
            except PromotionError as error:
                raise pytest.UsageError(f"{where}: {error}") from None
    return None


def inconclusive_of(config: pytest.Config) -> str:
    """What an inconclusive gate does to its test: "fail" or "warn".

    Raises pytest.UsageError for anything else, with the place where it was said.
    """
    for where, chosen in (
        ("--harness-inconclusive", config.getoption("harness_inconclusive")),
        ("HARNESS_INCONCLUSIVE", os.environ.get("HARNESS_INCONCLUSIVE")),
        ("harness_inconclusive", config.getini("harness_inconclusive")),
    ):
        if chosen and chosen not in _INCONCLUSIVE:
            raise pytest.UsageError(f"{where} is {' or '.join(_INCONCLUSIVE)}, got {chosen!r}")
        if chosen:
            return str(chosen)
    return _INCONCLUSIVE[0]


def tracking_of(config: pytest.Config) -> TrackingSettings:
    """The trackers of [tool.harness] in the rootdir's pyproject.toml, or of HARNESS_TRACKING.

    Raises pytest.UsageError for settings that cannot be used.
    """
    from harness.tracking import tracking_settings

    try:
        return tracking_settings(config.rootpath, os.environ)
    except TrackingError as error:
        raise pytest.UsageError(str(error)) from None
