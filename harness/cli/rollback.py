"""`harness rollback`: an alias points at an earlier version again."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.following import follow
from harness.cli.history import add_store, store_of
from harness.cli.output import Output
from harness.cli.project import find_project
from harness.cli.usage import OK

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "rollback",
        help="make an earlier promoted version live again",
        description="Point an alias back at a version that was promoted before, after its files were hashed.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe")
    parser.add_argument("--alias", metavar="NAME", default="production", help="what to move (default: production)")
    parser.add_argument(
        "--to", metavar="VERSION", type=_version, help="which version (default: the one that was live before)"
    )
    parser.add_argument("--reason", metavar="TEXT", default="", help="why; kept in the history")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_store(parser)
    parser.set_defaults(run=run)


def _version(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"a version is a whole number, got {text!r}")
    return int(text)


def run(arguments: Any, output: Output) -> int:
    from harness.pipeline.promoting import roll_back
    from harness.promotion import Registry

    project = find_project(Path.cwd())
    store = store_of(arguments)
    move = roll_back(store, arguments.recipe, alias=arguments.alias, to=arguments.to, reason=arguments.reason)
    if arguments.json:
        output.values({"recipe": arguments.recipe, **dataclasses.asdict(move)})
    else:
        output.line(
            f"{arguments.recipe}: {move.alias} is version {move.version} again (was version {move.before}), by run "
            f"{move.run}"
        )
    adapter = Registry(store, arguments.recipe).version(move.version).folder
    follow(project.root, arguments.recipe, move, adapter, output, quiet=arguments.json)
    return OK
