"""What earlier runs say: their records, and the index of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import ReportError
from harness.records import Outcome, RecipeResult, RuleKind, Run
from harness.report import read_report
from harness.report.wording import target
from harness.store import RecipeEntry, RunEntry, RunIndex, StoredRun, ValueEntry, read_run

__all__ = ["commit_of", "open_index", "recorded"]


def open_index(root: Path) -> RunIndex:
    """The index of the runs in the store below `root`; runs that cannot be read are its problems."""
    return RunIndex(root, _entry)


def recorded(root: Path, run: str) -> tuple[StoredRun, Run]:
    """A recorded run by its id, the beginning of one, or "latest", and what its report says.

    Raises StoreError where there is none or it was changed, ReportError where another version wrote it.
    """
    stored = read_run(root, run)
    return stored, _report(stored)


def commit_of(run: Run) -> tuple[str | None, bool | None]:
    """The commit that a run was made at, and whether the working tree had changes; None where it does not say."""
    git = run.provenance.get("git")
    return (git.get("commit"), git.get("dirty")) if isinstance(git, Mapping) else (None, None)


def _report(stored: StoredRun) -> Run:
    try:
        return read_report(stored.report_text)
    except ReportError as error:
        raise ReportError(f"{stored.folder}: {error}") from None


def _entry(stored: StoredRun) -> RunEntry:
    run = _report(stored)
    commit, dirty = commit_of(run)
    return RunEntry(
        run_id=stored.run_id,
        digest=stored.digest,
        started_at=run.started_at,
        seconds=run.duration_seconds,
        outcome=run.outcome,
        commit=commit,
        dirty=dirty,
        recipes=tuple(_recipe_entry(recipe) for recipe in run.recipes),
    )


def _recipe_entry(recipe: RecipeResult) -> RecipeEntry:
    from harness.pipeline.merging import run_outcome  # what makes runs is not needed where the index is up to date

    outcomes = [gate.verdict.outcome for gate in recipe.gates]
    return RecipeEntry(
        name=recipe.name,
        outcome=run_outcome((recipe,), ()),
        adapter_digest=recipe.adapter_digest,
        gates=len(outcomes),
        passed=outcomes.count(Outcome.PASS),
        values=(*_measures(recipe), *_gates(recipe)),
    )


def _measures(recipe: RecipeResult) -> Sequence[ValueEntry]:
    """The measures, each with the first threshold that a gate sets for all of it."""
    thresholds: dict[tuple[str, str], float | None] = {}
    for gate in recipe.gates:
        v = gate.verdict
        if v.kind is RuleKind.THRESHOLD and v.slice_name is None:
            thresholds.setdefault((v.measure, v.view), v.threshold)
    return [
        ValueEntry("measure", m.name, m.view, m.value, m.low, m.high, m.n, bar=thresholds.get((m.name, m.view)))
        for m in recipe.measures
    ]


def _gates(recipe: RecipeResult) -> Sequence[ValueEntry]:
    entries = []
    for gate in recipe.gates:
        v = gate.verdict
        if v.compared_with is None:
            entry = ValueEntry("gate", gate.id, v.view, v.value, v.low, v.high, v.n, v.outcome, target(v))
        else:
            numbers = (v.difference, v.difference_low, v.difference_high)
            entry = ValueEntry("difference", gate.id, v.view, *numbers, v.n, v.outcome, target(v))
        entries.append(entry)
    return entries
