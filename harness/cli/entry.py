"""Arguments in, exit code out."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from harness.cli import (
    card,
    compare,
    gc,
    judge_calibrate,
    plan,
    promote,
    push,
    recipe_check,
    recipe_schema,
    recipe_show,
    registry,
    report,
    rollback,
    runs,
    show,
    trend,
    verify,
)
from harness.cli.output import Output
from harness.cli.usage import FAILURE, INTERRUPTED, OK, PIPE_CLOSED, USAGE, CommandError
from harness.errors import HarnessError

__all__ = ["arguments_parser", "main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would print what the user typed as it is, control characters included.
        Output(sys.stdout, sys.stderr).problem(f"error: {message}; see {self.prog} --help")
        sys.exit(USAGE)


class _Version(argparse.Action):
    def __call__(self, *_: object) -> None:
        # Imported here: it takes as long as the rest of the command line together.
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("pytest-adapter-harness")
        except PackageNotFoundError:
            number = "from source, not installed"
        Output(sys.stdout, sys.stderr).line(f"harness {number}")
        sys.exit(OK)


def arguments_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser: argparse.ArgumentParser = _Parser(
        prog="harness",
        description="Work with recipes, runs and reports of the adapter harness. The gates are run by pytest.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    recipe = commands.add_parser("recipe", help="check, show and describe recipes", allow_abbrev=False)
    of_recipes = recipe.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (recipe_check, recipe_show, recipe_schema):
        command.declare(of_recipes)
    judge = commands.add_parser("judge", help="measure the judge against people", allow_abbrev=False)
    judge_calibrate.declare(judge.add_subparsers(title="commands", metavar="COMMAND", required=True))
    for command in (plan, report, runs, show, compare, trend, gc, promote, rollback, registry, verify, card, push):
        command.declare(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for problems found, 2 for a wrong call.

    Errors of the harness and of files are lines on stderr, never a traceback.
    """
    output = Output(sys.stdout, sys.stderr)
    try:
        code = _run(argv, output)
        output.flush()
        return code
    except BrokenPipeError:
        output.discard()
        return PIPE_CLOSED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        with contextlib.suppress(OSError):
            output.problem(f"error: {place}{error.strerror or error}; check the place and its permissions")
        try:
            output.flush()
        except OSError:  # it was the output that could not be written
            output.discard()
        return FAILURE


def _run(argv: Sequence[str] | None, output: Output) -> int:
    try:
        arguments = arguments_parser().parse_args(argv)
        code: int = arguments.run(arguments, output)
        return code
    except SystemExit as error:  # argparse, after --help, --version or a wrong call
        return error.code if isinstance(error.code, int) else USAGE
    except HarnessError as error:
        output.error(error)
        return USAGE if isinstance(error, CommandError) else FAILURE
    except KeyboardInterrupt:
        output.problem("error: interrupted")
        return INTERRUPTED
