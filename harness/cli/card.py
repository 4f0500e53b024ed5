"""`harness card`: the model card of an adapter that a run measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.files import write_whole
from harness.cli.output import Output, shown
from harness.cli.project import find_project
from harness.cli.usage import OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["add_card_options", "declare", "store_of"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "card",
        help="write the model card of a run's adapter",
        description="Write the README.md of the adapter that a recorded run measured, in the form of Hugging Face's "
        "model cards, and print its path. Nothing is measured, loaded or sent, and the adapter's own files stay as "
        "they are.",
        allow_abbrev=False,
    )
    parser.add_argument("run_named", metavar="RUN", help="the run's id, the beginning of it, or latest")
    add_card_options(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where to write it (default: README.md in a folder of the recipe's name, beside the run's report)",
    )
    parser.set_defaults(run=run)


def add_card_options(parser: Any) -> None:
    parser.add_argument("--recipe", metavar="NAME", help="whose adapter; needed where the run has several recipes")
    parser.add_argument(
        "--license", metavar="ID", help="the adapter's license, such as apache-2.0 (default: none stated)"
    )
    parser.add_argument("--store", metavar="DIR", type=Path, help="the store with the run (default: the project's)")


def store_of(arguments: Any) -> Path:
    if arguments.store is not None:
        return Path(os.path.abspath(arguments.store))
    return find_project(Path.cwd()).folder("store")


def run(arguments: Any, output: Output) -> int:
    from harness.pipeline.publishing import CARD, described
    from harness.report import card_md

    run, recipe = described(store_of(arguments), arguments.run_named, arguments.recipe)
    text = card_md(run, recipe.name, license=arguments.license)
    file = arguments.output
    if file is None:
        file = find_project(Path.cwd()).folder("reports") / run.run_id / recipe.name / CARD
        file.parent.mkdir(parents=True, exist_ok=True)
    elif file.is_dir():
        raise CommandError(f"{shown(file)}: is a folder; name a file, such as {shown(file / CARD)}")
    write_whole(file, text)
    output.line(shown(file))
    return OK
