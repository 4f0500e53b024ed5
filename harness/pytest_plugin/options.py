"""Options, ini keys and environment variables, and which of them wins: option, environment, ini, default."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import JudgeError, TrackingError

if TYPE_CHECKING:
    from harness.judging import JudgeSettings
    from harness.tracking import TrackingSettings

__all__ = [
    "add_options",
    "baseline_alias_of",
    "device_of",
    "folder_of",
    "inconclusive_of",
    "judge_settings_of",
    "tracking_of",
]

_FOLDERS = {
    "store": "adapters and results that are computed once (default: .harness)",
    "report_dir": "where a run's report goes (default: reports)",
    "recipes": "recipe files (default: fixtures/recipes)",
    "capability": "capability tasks (default: fixtures/capability)",
    "rubrics": "judge rubrics (default: fixtures/rubrics)",
}
_FOLDERS_WITH_OPTION = ("store", "report_dir")
_INCONCLUSIVE = ("fail", "warn")
_JUDGE = {
    "judge": "anthropic, batch or stand-in, with a model as anthropic:MODEL; several, separated by commas, are a panel "
    "(default: anthropic where there is a key, else stand-in)",
    "judge_model": "the judge's model (default: claude-sonnet-5-5)",
    "judge_base_url": "the address of a server that speaks the Messages API (default: Anthropic's)",
    "judge_budget": "the most that judging may cost in a run, in USD; the rest stays unscored (default: no limit)",
    "judge_panel": "how a panel's grades are joined: majority (default) or mean",
    "judge_concurrency": "calls to a judge under way at a time (default: 8)",
    "judge_rate": "calls to a judge a minute (default: no limit)",
    "judge_call_seconds": "the deadline for one answer, repeats included (default: 120)",
    "judge_suite_seconds": "the deadline for all answers of a judge (default: 3600, and 86400 for batches)",
    "judge_prices": "models that the price list does not have: lines of model, USD per million tokens in, and out",
}
_JUDGE_WITH_OPTION = ("judge", "judge_model", "judge_base_url", "judge_budget")
# Where the key is sent to is never taken from the environment.
_JUDGE_WITH_VARIABLE = ("judge", "judge_model", "judge_budget")


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
    for name in _JUDGE_WITH_OPTION:
        metavar = {"judge_base_url": "URL", "judge_budget": "USD"}.get(name, "NAME")
        group.addoption(f"--harness-{name.replace('_', '-')}", metavar=metavar, help=_JUDGE[name])
    for name, text in (*_FOLDERS.items(), *_JUDGE.items()):
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


def judge_settings_of(config: pytest.Config) -> JudgeSettings | None:
    """The judges that were chosen, or None where nothing was said.

    Raises pytest.UsageError for a setting that cannot be used, with the place where it was said.
    """
    places: dict[str, str] = {}
    texts: dict[str, str | None] = {}
    for name in _JUDGE:
        option = config.getoption(f"harness_{name}", None) if name in _JUDGE_WITH_OPTION else None
        variable = os.environ.get(f"HARNESS_{name.upper()}") if name in _JUDGE_WITH_VARIABLE else None
        ini = config.getini(f"harness_{name}")
        for where, chosen in (
            (f"--harness-{name.replace('_', '-')}", option),
            (f"HARNESS_{name.upper()}", variable),
            (f"harness_{name}", ini),
        ):
            if chosen:
                places[name], texts[name] = where, str(chosen)
                break
    if not texts:
        return None
    from harness.judging import read_settings

    try:
        settings = read_settings(texts)
    except JudgeError as error:
        name, _, rest = str(error).partition(" ")
        name, colon = name.removesuffix(":"), ":" if name.endswith(":") else ""
        raise pytest.UsageError(f"{places.get(name, f'harness_{name}')}{colon} {rest}") from None
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    return replace(settings, processes=int(workers))
