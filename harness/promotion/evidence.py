"""What a run proves of a recipe, and why it may not suffice for a promotion."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from harness.errors import PromotionError
from harness.records import PROMOTED, GateResult, Outcome, RecipeResult, Run

__all__ = ["age_from", "facts", "gate_facts", "weaknesses"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Between the clocks of two machines.
_CLOCKS_APART = timedelta(minutes=5)
_OF_A_VERDICT = (
    *("measure", "view", "slice_name", "slice_value", "rule", "n", "value", "low", "high", "compared_with", "baseline"),
    *("difference", "difference_low", "difference_high", "method", "note"),
)
_DECIDED_FOR_A_PROMOTION = (Outcome.PASS, Outcome.NOT_APPLICABLE)


def age_from(text: str) -> timedelta:
    """The time that "7d", "12h", "30m" or "90s" means. Raises PromotionError for anything else."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise PromotionError(f"--max-age must be a number and s, m, h or d, such as 7d or 12h, got {text!r}")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def weaknesses(
    run: Run, recipe: RecipeResult, *, live: Mapping[str, Any] | None, first: bool, max_age: timedelta, now: datetime
) -> Iterator[str]:
    """Why the run does not allow this recipe's adapter to be promoted, one clause each.

    live: alias, version and adapter_digest of what the alias points at, or None before the first promotion.
    first: whether a first promotion was asked for.
    """
    yield from _unfinished(run, recipe)
    yield from _untested(recipe)
    yield from _unbound(recipe)
    yield from _too_old(run, max_age, now)
    yield from _other_baseline(recipe, live, first)


def _unfinished(run: Run, recipe: RecipeResult) -> Iterator[str]:
    if run.problems:
        yield f"the run has a problem: {run.problems[0]}"
    if recipe.problem is not None:
        yield f"the recipe did not finish: {' '.join(recipe.problem.split())}"
    if not recipe.integrity:
        yield "the adapter was not checked; ask a gate on the view adapter"
    for check in recipe.integrity:
        if not check.passed:
            yield f"the adapter is not sound: {check.detail}"
    if not any(gate.verdict.outcome is Outcome.PASS for gate in recipe.gates):
        yield "no gate passed"
    for gate in recipe.gates:
        if gate.verdict.outcome not in _DECIDED_FOR_A_PROMOTION:
            yield f"{gate.id}: {gate.verdict.outcome}, not pass"


def _untested(recipe: RecipeResult) -> Iterator[str]:
    collected, passed = recipe.tests.get("collected"), recipe.tests.get("passed")
    if not isinstance(collected, int) or not isinstance(passed, int) or not recipe.suites:
        yield "the run does not say which tests it collected; run the suites again with this version"
    elif not 0 < collected == passed:
        yield f"{passed} of {collected} collected tests passed"
    named = recipe.tests.get("named")
    if named:
        yield f"only some tests were asked for ({named[0]}); run the whole suites"


def _unbound(recipe: RecipeResult) -> Iterator[str]:
    if recipe.adapter_digest is None or not recipe.fingerprint:
        yield "the run does not say which adapter it measured"
    if not recipe.base_digest:
        yield "the run does not say which base model it measured; run the suites again with this version"
    for split in ("train", "validation", "test"):
        if not _digest(recipe.data, split):
            yield f"the run does not say which {split} data it used"
    for gate in recipe.gates:
        if gate.verdict.asked is None:
            yield f"{gate.id}: its rule was not recorded; run the suites again with this version"


def _too_old(run: Run, max_age: timedelta, now: datetime) -> Iterator[str]:
    try:
        age = now - datetime.fromisoformat(run.started_at)
    except (ValueError, TypeError):
        yield f"the run does not say when it started: {run.started_at!r}"
        return
    if age > max_age:
        yield f"the run is {_in_words(age)} old, and {_in_words(max_age)} are allowed; run again, or raise --max-age"
    elif age < -_CLOCKS_APART:
        yield f"the run started in the future, at {run.started_at}; check the clocks"


def _in_words(time: timedelta) -> str:
    for unit, seconds in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if time.total_seconds() >= 2 * seconds:
            return f"{time.total_seconds() / seconds:.0f} {unit}"
    return f"{time.total_seconds():.0f} seconds"


def _other_baseline(recipe: RecipeResult, live: Mapping[str, Any] | None, first: bool) -> Iterator[str]:
    waiting = [gate.id for gate in recipe.gates if gate.verdict.outcome is Outcome.NOT_APPLICABLE]
    if live is None:
        if not first:
            yield "nothing was promoted before, so nothing was compared with; say --first if that is meant"
        return
    if first:
        yield f"--first, and version {live['version']} is {live['alias']} already; leave --first out"
    if waiting:
        yield (
            f"{waiting[0]}: not applicable, and version {live['version']} is {live['alias']} by now; run the suites "
            "again to compare with it"
        )
    compared = [gate for gate in recipe.gates if PROMOTED in (gate.verdict.view, gate.verdict.compared_with)]
    measured = recipe.promoted
    if compared and not waiting and measured.get("adapter_digest") != live["adapter_digest"]:
        against = f"version {measured['version']} of {measured['alias']}" if measured else "nothing"
        yield (
            f"it was compared with {against}, and {live['alias']} is version {live['version']}; run the suites again"
        )


def _digest(data: Mapping[str, Any], name: str) -> str | None:
    part = data.get(name)
    digest = part.get("sha256") if isinstance(part, Mapping) else None
    return digest if isinstance(digest, str) and digest else None


def gate_facts(gate: GateResult) -> dict[str, Any]:
    """A gate as JSON values: its rule, and what it was decided on."""
    verdict = gate.verdict
    asked = None
    if verdict.asked is not None:
        asked = {**dataclasses.asdict(verdict.asked), "must_pass": list(verdict.asked.must_pass)}
    return {
        "id": gate.id,
        "test": gate.test,
        "outcome": verdict.outcome.value,
        "asked": asked,
        **{name: getattr(verdict, name) for name in _OF_A_VERDICT},
    }


def facts(run: Run, recipe: RecipeResult, run_digest: str) -> dict[str, Any]:
    """What the run found of the recipe, as JSON values: the evidence of a promotion."""
    return {
        "recipe": recipe.name,
        "adapter": {"digest": recipe.adapter_digest, "fingerprint": recipe.fingerprint},
        "base": {
            "name": recipe.base,
            "digest": recipe.base_digest,
            "quantization": dict(recipe.config.get("quantization") or {}),
        },
        "run": {
            "id": run.run_id,
            "digest": run_digest,
            "started_at": run.started_at,
            "outcome": run.outcome.value,
        },
        "gates": [gate_facts(gate) for gate in recipe.gates],
        "integrity": [dataclasses.asdict(check) for check in recipe.integrity],
        "data": {name: digest for name in recipe.data if (digest := _digest(recipe.data, name)) is not None},
        "evaluation": dict(recipe.config.get("evaluation") or {}),
        "suites": dict(recipe.suites),
        "tests": dict(recipe.tests),
        "compared_with": dict(recipe.promoted),
        "provenance": {name: run.provenance.get(name) for name in ("harness", "versions", "python", "platform", "git")},
    }
