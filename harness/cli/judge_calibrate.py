"""`harness judge calibrate`: how far the judge's grades agree with people's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.output import Output, shown
from harness.cli.project import find_project
from harness.cli.usage import FAILURE, OK, CommandError

if TYPE_CHECKING:
    from harness.cli.project import Project
    from harness.cli.usage import Commands
    from harness.judging import JudgeSettings
    from harness.pipeline.calibrating import JudgeCheck

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="how far the judge's grades agree with people's",
        description="Let the judge grade the answers that people graded, and print how far both agree. Grades that are "
        "in the store are not asked for again. Ends with 1 where a judge is below its rubric's min_kappa.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "rubric", metavar="RUBRIC", nargs="?", help="the rubric's name (default: each that has a calibration set)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.pipeline.calibrating import check_of
    from harness.store import Store

    project = find_project(Path.cwd())
    rubrics = project.folder("rubrics")
    store = Store(project.folder("store"))
    settings = _settings(project, os.environ)
    facts: list[dict[str, Any]] = []
    for name in _names(arguments.rubric, rubrics):
        check = check_of(name, rubrics, store=store, environ=os.environ, settings=settings)
        problem = check.problem()
        if problem is not None:
            output.problem(f"error: {name}: {problem}")
        facts.append(check.facts())
        if not arguments.json:
            for line in _lines(check):
                output.line(line)
    if arguments.json:
        output.values({"judges": facts})
    return FAILURE if any(known["problem"] is not None for known in facts) else OK


def _settings(project: Project, environ: Mapping[str, str]) -> JudgeSettings:
    """The judges that pytest would ask without options. Raises CommandError for a setting that cannot be used."""
    from harness.errors import JudgeError
    from harness.judging import SETTINGS, VARIABLES, read_settings

    chosen: dict[str, str | None] = {}
    for name in SETTINGS:
        variable = environ.get(f"HARNESS_{name.upper()}") if name in VARIABLES else None
        ini = project.ini.get(f"harness_{name}")
        lines = "\n".join(map(str, ini)) if isinstance(ini, list) else ini
        chosen[name] = variable or (None if lines is None else str(lines))
    try:
        return read_settings(chosen)
    except JudgeError as error:
        raise CommandError(f"harness_{error}") from None


def _names(asked: str | None, rubrics: Path) -> list[str]:
    """The rubrics to calibrate for. Raises CommandError where there is none, or none with a calibration set."""
    sets = rubrics.parent / "calibration"
    ready = sorted(file.stem for file in rubrics.glob("*.yaml") if (sets / f"{file.stem}.jsonl").is_file())
    if asked is None and ready:
        return ready
    if asked in ready:
        return [asked]
    if asked is not None and not (rubrics / f"{asked}.yaml").is_file():
        there = ", ".join(sorted(file.stem for file in rubrics.glob("*.yaml"))) or "none"
        raise CommandError(f"there is no rubric {asked!r} in {shown(rubrics)}; it has: {there}")
    missing = shown(sets / f"{asked or 'RUBRIC'}.jsonl")
    raise CommandError(f"there is no {missing}; write answers with grades by people into it (docs/calibration.md)")


def _lines(check: JudgeCheck) -> Iterator[str]:
    found = check.calibration
    if found is None:
        return
    facts = found.facts()
    verdict = "fit" if found.fit else "not fit"
    yield f"{found.judge} by the rubric {found.rubric}, {found.n} answers graded by people: {verdict}"
    rows = [
        (f"weighted kappa (min_kappa {found.min_kappa:g})", _figure(facts["kappa"])),
        ("Spearman", _figure(facts["spearman"])),
        *((f"weighted kappa of {name}", _figure(kappa)) for name, kappa in facts["by_criterion"].items()),
        ("bias by length: grades for twice the words", _figure(facts["length_bias"], plus=True)),
        ("bias by position", "not asked: this judge grades one answer at a time"),
        ("mean grade, people and judge", f"{found.people:5.2f}, {found.judged:.2f}"),
    ]
    if check.drift is not None:
        asked = f"{check.drift.shift:+.2f} grades on {check.drift.n} answers asked again"
        rows.append(("since it was calibrated", f"{asked}{': drift' if check.drift.found else ''}"))
    width = max(len(title) for title, _ in rows)
    for title, figure in rows:
        yield f"  {title.ljust(width)}  {figure}"
    yield "  overall grades, rounded: people in rows, the judge in columns"
    matrix: Mapping[str, Any] = facts["confusion_matrix"]
    yield f"       {'  '.join(label.rjust(3) for label in matrix['labels'])}"
    for label, row in zip(matrix["labels"], matrix["counts"], strict=True):
        yield f"    {label}  {'  '.join(str(count).rjust(3) for count in row)}"


def _figure(figure: Mapping[str, float] | None, *, plus: bool = False) -> str:
    if figure is None:
        return "not defined"
    sign = "+" if plus else ""
    return f"{figure['value']:{sign}5.2f} [{figure['low']:{sign}.2f}, {figure['high']:{sign}.2f}]"
