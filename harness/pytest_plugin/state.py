"""What one pytest session knows: options, the harness session behind the fixtures, and how tests went."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import pytest

from harness.errors import HarnessError, TrainingInterrupted
from harness.pytest_plugin.options import (
    baseline_alias_of,
    device_of,
    folder_of,
    inconclusive_of,
    judge_settings_of,
    tracking_of,
)
from harness.records import Outcome

if TYPE_CHECKING:
    from harness.pipeline import Places, Session
    from harness.records import Run, Scores
    from harness.tracking import Note

__all__ = ["STATE", "State"]

_WORKER_RUN = "harness_run"
_WORKER_SCORES = "harness_scores"
_WORKER_UNRECORDED = "harness_unrecorded"


class State:
    """One per pytest.Config. Nothing of the harness is imported before a recipe is used."""

    current: ClassVar[State | None] = None
    """The innermost session, for the one hook that pytest calls without a config."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.worker = hasattr(config, "workerinput")
        self._before, State.current = State.current, self
        self._loaded: set[str] = set()
        self._choosing = False
        self._deselected: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._ran: set[str] = set()
        self._collected: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self._suites: dict[str, set[Path]] = {}
        self._digests: dict[Path, str] = {}
        self._failed: dict[str, list[str]] = {}
        self._problems: list[str] = []
        self._from_workers: list[Run] = []
        self._scores: list[Mapping[str, Sequence[Scores]]] = []
        self._unrecorded: str | None = None
        self.run: Run | None = None
        self.report_folder: Any = None
        self._tracked: tuple[Note, ...] = ()

    @property
    def planning(self) -> bool:
        """Whether gates are only recorded: nothing is trained, measured or reported."""
        return bool(self.config.getoption("harness_plan"))

    @cached_property
    def places(self) -> Places:
        from harness.pipeline import Places

        return Places.below(
            self.config.rootpath,
            recipes=folder_of(self.config, "recipes"),
            capability=folder_of(self.config, "capability"),
            rubrics=folder_of(self.config, "rubrics"),
            store=folder_of(self.config, "store"),
            reports=folder_of(self.config, "report_dir"),
        )

    @cached_property
    def session(self) -> Session:
        from harness.pipeline import PlanningSession, Session
        from harness.promotion import DEFAULT_ALIAS
        from harness.pytest_plugin.progress import progress_for

        if self.planning:
            return PlanningSession(self.places, judge_settings=judge_settings_of(self.config))
        return Session(
            self.places,
            device=device_of(self.config),
            allow_training=not self.config.getoption("harness_no_train"),
            progress=progress_for(self.config),
            baseline_alias=baseline_alias_of(self.config) or DEFAULT_ALIAS,
            judge_settings=judge_settings_of(self.config),
        )

    def check_options(self) -> None:
        """UsageError for a --harness-recipe that matches nothing, and for a value that an option does not have.

        Raised here, it is one clean line and exit status 4.
        """
        inconclusive_of(self.config)
        tracking_of(self.config)
        baseline_alias_of(self.config)
        judge_settings_of(self.config)
        wanted = self.config.getoption("harness_recipe")
        if not wanted:
            return
        from harness.recipes import find_recipes

        try:  # without `session`: the terminal that its progress goes to is not there yet
            names = tuple(find_recipes(self.places.recipes))
        except HarnessError as error:
            raise pytest.UsageError(f"--harness-recipe: {error}") from None
        for pattern in wanted:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise pytest.UsageError(
                    f"--harness-recipe {pattern}: no recipe in {self.places.recipes} matches; "
                    f"it has: {', '.join(names) or 'none'}"
                )

    def load(self, name: str) -> None:
        """Check a recipe once, at collection."""
        if name not in self._loaded:
            self.session.load(name)
            self._loaded.add(name)

    @contextlib.contextmanager
    def choosing_recipes(self) -> Iterator[None]:
        """Tests deselected meanwhile belong to recipes that were not asked for, which makes nothing incomplete."""
        self._choosing = True
        try:
            yield
        finally:
            self._choosing = False

    @contextlib.contextmanager
    def reporting(self, recipe: str) -> Iterator[None]:
        """Errors of the harness become the recipe's problem, and a test error of one message."""
        try:
            yield
        except TrainingInterrupted as error:
            self._note(recipe, str(error))
            self.interrupted(error)
        except HarnessError as error:
            self._note(recipe, str(error))
            pytest.fail(str(error), pytrace=False)

    def problem(self, item: pytest.Item, text: str) -> None:
        from harness.pytest_plugin.selection import recipe_of

        recipe = recipe_of(item)
        if recipe is not None:
            self._note(recipe, text)

    def _note(self, recipe: str, text: str) -> None:
        if recipe in self.session.opened:
            self.session.problem(recipe, text)
        else:
            self._problems.append(f"{recipe}: {text}")

    def interrupted(self, error: TrainingInterrupted) -> NoReturn:
        self._problems.append(str(error))
        if self.worker:  # where the words of pytest.exit are not shown
            self.session.progress.message(str(error))
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)

    def collected(self, item: pytest.Item) -> None:
        """Counted before anything can take it out again; its file is read as it is when it was imported."""
        from harness.pytest_plugin.selection import recipe_of

        recipe = recipe_of(item)
        if recipe is None:
            return
        self._collected[recipe] += 1
        suites = self._suites.setdefault(recipe, set())
        if item.path in suites:
            return
        above = [place / "conftest.py" for place in item.path.parents if place.is_relative_to(self.config.rootpath)]
        for file in (item.path, *above):
            if file.is_file():
                suites.add(file)
                if file not in self._digests:
                    self._digests[file] = hashlib.sha256(file.read_bytes()).hexdigest()

    def deselected(self, item: pytest.Item) -> None:
        from harness.pytest_plugin.selection import recipe_of

        recipe = recipe_of(item)
        if recipe is None:
            return
        if self._choosing:
            self._collected[recipe] -= 1
        else:
            self._deselected[recipe] += 1

    def reported(self, report: pytest.TestReport, recipe: str) -> None:
        if report.skipped:
            self._skipped[recipe] += 1
            return
        if report.failed or report.when == "call":
            self._ran.add(recipe)
        if report.passed and report.when == "call":
            self._passed[recipe] += 1
        if report.failed:
            self._failed.setdefault(recipe, []).append(report.nodeid)

    def worker_ended(self, node: Any) -> None:
        """Controller: take over a worker's run; one that sent nothing makes the whole run incomplete."""
        from harness.report import read_report
        from harness.store import read_scores

        output = getattr(node, "workeroutput", None)
        if output is None:
            self._problems.append(f"worker {node.gateway.id} ended without its results")
        elif output.get(_WORKER_RUN):
            self._from_workers.append(read_report(output[_WORKER_RUN]))
            self._unrecorded = output.get(_WORKER_UNRECORDED) or self._unrecorded
            if _WORKER_SCORES in output:
                self._scores.append(read_scores(output[_WORKER_SCORES]))

    def finish(self, session: pytest.Session) -> None:
        """Make the run record; the process that the user started writes the report."""
        from harness.errors import StoreError

        if self.planning:
            return
        unheard = [] if self.worker else sorted(self._skipped.keys() - self._ran)
        self._problems += [
            f"{recipe}: all {self._skipped[recipe]} of its tests were skipped, so nothing says that it is good enough."
            for recipe in unheard
        ]
        if "session" in self.__dict__ and self.session.used and not self.config.option.collectonly:
            self.session.close()
            self._note_selection(self.session.opened)
            self.run = self.session.finish(self._problems)
            self._scores.append(self.session.scores())
        if self.worker:
            if self.run is not None:
                self._send(self.run)
            return
        if self._from_workers:
            from harness.pipeline.identity import command_line
            from harness.pipeline.merging import merged

            run = merged(self._from_workers, self._problems)
            # A worker does not know how pytest was called.
            self.run = replace(run, provenance={**run.provenance, "command": command_line()})
        if self.run is None and unheard:
            self.run = self.session.finish(self._problems)
        if self.run is None:
            return
        from harness.pytest_plugin.reporting import write_report

        try:
            self.report_folder = write_report(self.run, self.places.reports)
        except StoreError as error:
            self._problems.append(str(error))
            session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR
        self._record(self.run)
        if self._problems and session.exitstatus == pytest.ExitCode.OK:
            # A run that is not complete must not look like one that passed.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._track(self.run)

    def _track(self, run: Run) -> None:
        """Tell the trackers, after everything that makes the verdict."""
        settings = tracking_of(self.config)
        if settings.trackers:
            from harness.tracking import track_run

            files = () if self.report_folder is None else sorted(self.report_folder.iterdir())
            self._tracked = track_run(run, files, settings, folder=self.places.root)

    def _send(self, run: Run) -> None:
        """Worker: to the controller as JSON text, since an object would kill the worker without a word."""
        from harness.errors import StoreError
        from harness.report import report_json
        from harness.store import scores_json

        output = self.config.workeroutput  # type: ignore[attr-defined]
        output[_WORKER_RUN] = report_json(run)
        try:
            output[_WORKER_SCORES] = scores_json(self.session.scores())
        except StoreError as error:
            output[_WORKER_UNRECORDED] = str(error)

    def _record(self, run: Run) -> None:
        """Keep the run in the store. One that cannot be kept has its verdict, and cannot be promoted."""
        from harness.errors import StoreError
        from harness.pipeline.merging import merged_scores
        from harness.report import report_json
        from harness.store import keep_run

        try:
            if self._unrecorded is None:
                keep_run(self.places.store, run.run_id, report_json(run), merged_scores(self._scores))
        except StoreError as error:
            self._unrecorded = str(error)

    def _note_selection(self, recipes: Any) -> None:
        """A recipe whose tests did not all run to a verdict has none."""
        for recipe in recipes:
            for count, what in ((self._deselected[recipe], "deselected"), (self._skipped[recipe], "skipped")):
                if count:
                    self.session.problem(recipe, f"{count} of its tests were {what}; run them all for a verdict.")
            passing = (Outcome.PASS, Outcome.NOT_APPLICABLE)
            explained = {g.test for g in self.session.gates(recipe) if g.verdict.outcome not in passing}
            for test in self._failed.get(recipe, ()):
                if test not in explained:
                    self.session.problem(recipe, f"{test} failed.")
            self._note_tests(recipe)

    def _note_tests(self, recipe: str) -> None:
        """What a promotion compares: the test files as they were, and whether each collected test passed."""
        root = self.config.rootpath
        suites = {
            Path(os.path.relpath(file, root)).as_posix(): self._digests[file]
            for file in sorted(self._suites.get(recipe, ()))
        }
        tests = {
            "collected": self._collected[recipe],
            "passed": self._passed[recipe],
            "named": [argument for argument in self.config.args if "::" in argument],
        }
        self.session.tested(recipe, suites=suites, tests=tests)

    def summarize(self, reporter: pytest.TerminalReporter) -> None:
        if self.worker or self.run is None:
            return
        from harness.pytest_plugin.reporting import print_summary, print_tracking

        said = list(self._problems)
        if self._unrecorded is not None:
            said.append(f"This run is not in the history and cannot be promoted. {self._unrecorded}")
        print_summary(
            self.run,
            self.report_folder,
            said,
            reporter,
            warned=inconclusive_of(self.config) == "warn",
        )
        print_tracking(self._tracked, reporter)

    def close(self) -> None:
        if "session" in self.__dict__:
            self.session.close()
        State.current = self._before


STATE: pytest.StashKey[State] = pytest.StashKey()
