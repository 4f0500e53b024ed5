"""`harness recipe schema`: the JSON Schema of recipe files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.output import Output
from harness.cli.usage import OK

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of recipes, for editors",
        description="Print the JSON Schema (draft 2020-12) of recipe files. It knows the arguments of the "
        "installed versions of transformers, peft and trl.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.recipes import recipe_schema

    output.values(recipe_schema())
    return OK
