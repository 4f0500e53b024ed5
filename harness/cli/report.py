"""`harness report`: a run's reports, rendered again from its report.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.files import write_whole
from harness.cli.output import Output, shown
from harness.cli.project import find_project
from harness.cli.usage import OK, CommandError
from harness.errors import ReportError

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]

_JSON = "report.json"
_LATEST = "latest"
_NEWEST_SHOWN = 3


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "report",
        help="render a run's reports again",
        description="Render report.html and summary.md of a run from its report.json, beside it, and print "
        "their paths.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run_named",
        metavar="RUN",
        help="a run's folder, its report.json, the id of a run in the project's reports, or latest",
    )
    parser.add_argument(
        "--format",
        choices=("html", "md", "all"),
        default="all",
        help="html: report.html; md: summary.md; all: both (default)",
    )
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    source = _find(arguments.run_named)
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(
            f"{shown(source)}: byte {error.start} is not UTF-8; use the report.json that the harness wrote"
        ) from None

    from harness.report import read_report, report_html, summary_md

    try:
        record = read_report(text)
    except ReportError as error:
        raise ReportError(f"{shown(source)}: {error}") from None
    # Both are rendered before one is written: a failure leaves the old pair, not half of a new one.
    rendered = {}
    if arguments.format in ("html", "all"):
        rendered["report.html"] = report_html(record)
    if arguments.format in ("md", "all"):
        rendered["summary.md"] = summary_md(record)
    for name, content in rendered.items():
        write_whole(source.with_name(name), content, like=source)
        output.line(shown(source.with_name(name)))
    return OK


def _find(named: str) -> Path:
    """The report.json that `named` stands for. Raises CommandError if there is none."""
    reports = find_project(Path.cwd()).folder("reports")
    path = Path(named)
    # A bare name is a run's id first: a file that happens to be called so must not hide the run.
    if path.name == named and named.strip(".") and (reports / named / _JSON).is_file():
        # latest is a link; the run it points to now is the one that the printed paths must name.
        return (reports / named).resolve() / _JSON
    if path.is_file():
        return path
    if path.is_dir():
        if (path / _JSON).is_file():
            return path.resolve() / _JSON
        raise CommandError(f"{shown(path)}: has no {_JSON}; name the folder of a run, e.g. one below {shown(reports)}")
    runs = _runs(reports)
    if not runs:
        raise CommandError(f"there is no run {named!r}, and no report in {shown(reports)}; run `pytest suites/` first")
    newest = ", ".join(runs[:_NEWEST_SHOWN])
    raise CommandError(
        f"there is no run {named!r} in {shown(reports)}; name its folder, or one of the newest: {newest}"
    )


def _runs(reports: Path) -> list[str]:
    """The ids of the runs that have a report, newest first: ids begin with the time."""
    try:
        names = [folder.name for folder in reports.iterdir() if (folder / _JSON).is_file()]
    except OSError:
        return []
    return sorted((name for name in names if name != _LATEST and not name.startswith(".")), reverse=True)
