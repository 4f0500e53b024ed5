"""`harness gc`: what the store can do without."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.history import add_store, index_of, store_of
from harness.cli.output import Output, shown
from harness.cli.usage import FAILURE, OK

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.store.garbage import Garbage

__all__ = ["declare"]

_DAY = 86_400.0
_OLDER_THAN = "30d"


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "gc",
        help="free what the store can do without",
        description="Print the runs, adapters and results in the store that were not used lately, and with --yes "
        "remove them. What is promoted, and the latest run of every recipe with its adapter, always stays.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--older-than",
        metavar="DAYS",
        type=_days,
        default=_OLDER_THAN,
        help=f"what was used since stays: a number of days, e.g. 90d (default: {_OLDER_THAN})",
    )
    parser.add_argument("--yes", action="store_true", help="remove it; without this, nothing is changed")
    add_store(parser)
    parser.set_defaults(run=run)


def _days(text: str) -> float:
    """ "30d" -> 30. Raises ArgumentTypeError for anything else."""
    if re.fullmatch(r"\d{1,5}d?", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days; write e.g. 30d")
    return float(text.removesuffix("d"))


def run(arguments: Any, output: Output) -> int:
    from harness.promotion import promoted_digests
    from harness.store.garbage import find_garbage, free

    root = store_of(arguments)
    index = index_of(root, output)
    before = time.time() - arguments.older_than * _DAY
    found = find_garbage(root, index.runs(), before=before, promoted=promoted_digests(root))
    for line in _lines(found):
        output.line(line)
    kept = ", ".join(f"{what} {count:,}" for what, count in found.kept.items())
    if not found.size:
        output.line(f"nothing can be freed in {shown(root)}; kept: {kept}")
    elif arguments.yes:
        output.line(f"freed {_bytes(free(root, found, before=before))}; kept: {kept}")
    else:
        output.line(f"{_bytes(found.size)} can be freed with --yes; kept: {kept}")
    return FAILURE if index.problems else OK


def _lines(found: Garbage) -> Iterator[str]:
    for one in found.runs:
        yield f"run      {one.name}  {_bytes(one.size)}"
    for one in found.adapters:
        yield f"adapter  {_name(one.path, one.name)}  {_bytes(one.size)}, last used {_date(one.used)}"
    sizes: dict[str, list[int]] = {}
    for one in found.results:
        sizes.setdefault(one.name, []).append(one.size)
    for kind, each in sizes.items():
        yield f"results  {kind}: {len(each):,}  {_bytes(sum(each))}"


def _name(folder: Path, recipe: str) -> str:
    return f"{recipe or 'unknown recipe'} {folder.name[:8]}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _bytes(size: int) -> str:
    """ "0.4 kB", "12.3 MB": in units of 1000, as disks are sold."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"
