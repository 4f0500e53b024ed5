"""`harness show`: a run's gates, in the words in which it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.history import add_store, commit_in_words, record_of, store_of, when
from harness.cli.output import Output
from harness.cli.usage import OK

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "show",
        help="print a run's gates again",
        description="Print when a run was, at which commit, and its table of gates in the words in which it ended. "
        "The run's record in the store is checked first; the folder of its report is not needed.",
        allow_abbrev=False,
    )
    parser.add_argument("run_named", metavar="RUN", help="a run's id, the beginning of one, or latest")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.pipeline.history import commit_of
    from harness.report import terminal_summary
    from harness.report.wording import duration

    stored, found = record_of(store_of(arguments), arguments.run_named)
    commit = commit_in_words(*commit_of(found))
    output.line(f"{stored.run_id}  {when(found.started_at)}  {duration(found.duration_seconds)}  {commit}")
    for line in terminal_summary(found, found.problems):
        output.line(line.text)
    return OK
