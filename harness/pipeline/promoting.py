"""From a recorded run to a promoted adapter: everything that a promotion looks at, and the move itself."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.data import file_digest
from harness.errors import GateError, HarnessError, PromotionError
from harness.gates import decide, decide_slices
from harness.judging import load_rubric
from harness.pipeline.session import Places
from harness.pipeline.stopping import stopped_name
from harness.promotion import (
    DEFAULT_ALIAS,
    Move,
    Registry,
    check_alias,
    digests_of,
    envelope,
    facts,
    loosened,
    signer_from,
    weaknesses,
)
from harness.recipes import Recipe, find_recipes, load_recipe, resolved
from harness.records import GateResult, Outcome, RecipeResult, Scores, Verdict
from harness.report import read_report
from harness.store import Adapter, Store, read_run

__all__ = ["MAX_AGE", "Promotion", "promote", "roll_back"]

MAX_AGE = timedelta(days=7)
_ROUNDING = 1e-9
_TRAINED_ON = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion that was made. changes: of policy, accepted. keyid: of the signature, None where there is none."""

    move: Move
    folder: Path
    changes: tuple[str, ...]
    keyid: str | None


def promote(
    places: Places,
    run_named: str,
    name: str,
    *,
    alias: str = DEFAULT_ALIAS,
    first: bool = False,
    accepted: str | None = None,
    max_age: timedelta = MAX_AGE,
    environ: Mapping[str, str] = os.environ,
    now: datetime | None = None,
) -> Promotion:
    """Point an alias at the adapter that a recorded run measured, if its record proves that it is good enough.

    run_named: a run's id, the beginning of one, or latest. first: that nothing was promoted to the alias before.
    accepted: why gates may ask less than at the last promotion. max_age: of the run.
    Raises PromotionError with every reason why not, one line each, and StoreError where the record, the adapter or
    the registry cannot be read or is damaged.
    """
    now = now or datetime.now(UTC)
    signer = signer_from(environ)
    registry = Registry(places.store, name)
    live = registry.live(check_alias(alias))
    stored = read_run(places.store, run_named)
    run = read_report(stored.report_text)
    where = f"{name}: run {stored.run_id}"
    recipe = next((result for result in run.recipes if result.name == name), None)
    if recipe is None:
        known = ", ".join(result.name for result in run.recipes) or "none"
        said = [f"{where}: {problem}" for problem in run.problems]
        raise PromotionError([f"{where} did not test this recipe; its recipes: {known}", *said])
    target = None if live is None else {"alias": alias, "version": live.version, "adapter_digest": live.adapter_digest}
    reasons = [*weaknesses(run, recipe, live=target, first=first, max_age=max_age, now=now)]
    reasons += _edited(recipe, stored.scores.get(name, ()))
    reasons += _moved_on(places, recipe)
    reasons += _unfit_judge(places, recipe)
    adapter = Store(places.store).adapter(recipe.fingerprint) if recipe.fingerprint else None
    reasons += _other_adapter(adapter, recipe, places.store)
    evidence = facts(run, recipe, stored.digest)
    changes = _changes(registry, alias, evidence)
    if changes and not accepted:
        reasons += [f"a gate asks less than at the last promotion: {change}" for change in changes]
        reasons.append('if that is meant, say why with --accept-policy-change "reason"')
    if accepted is not None and not changes:
        reasons.append("--accept-policy-change, and no gate asks less than at the last promotion; leave it out")
    if reasons or adapter is None:
        raise PromotionError(f"{where}: {reason}" for reason in reasons)
    files = {**adapter.manifest["files"], **digests_of(adapter.folder, {"manifest.json": None})}
    # PEFT leaves one. It is the model card's place, and nothing that loads a model reads it.
    files.pop("README.md", None)
    time = now.isoformat(timespec="seconds")

    def attest(version: int) -> str:
        promoted = {"alias": alias, "version": version, "at": time, "replaces": target and target["version"]}
        policy = {
            "changes": list(changes),
            "accepted": accepted,
            "first": first,
            "max_age_seconds": max_age.total_seconds(),
        }
        return envelope(files, {**evidence, "promotion": promoted, "policy": policy}, signer)

    move = registry.promote(
        adapter.folder,
        files,
        alias=alias,
        expected=None if live is None else live.counter,
        time=time,
        reason=accepted or "",
        run=stored.run_id,
        adapter_digest=adapter.digest,
        attest=attest,
    )
    folder = registry.checked(move.version).folder
    return Promotion(move, folder, changes, None if signer is None else signer.keyid)


def roll_back(store: Path, name: str, *, alias: str = DEFAULT_ALIAS, to: int | None = None, reason: str = "") -> Move:
    """Point an alias back at a version that was promoted before, by default the one that was live before this one.

    The version's files are hashed first. Raises PromotionError if there is none, StoreError if it is damaged.
    """
    registry = Registry(store, name)
    live = registry.live(check_alias(alias))
    if live is None:
        raise PromotionError(f"{name}: nothing was promoted to {alias}, so there is nothing to roll back")
    version = registry.previous(alias) if to is None else to
    if version is None:
        raise PromotionError(f"{name}: version {live.version} is the first {alias}; name another with --to")
    if version == live.version:
        raise PromotionError(f"{name}: version {version} is {alias} already")
    found = registry.checked(version)
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return registry.roll_back(found, alias=alias, expected=live.counter, time=time, reason=reason)


def _changes(registry: Registry, alias: str, evidence: Mapping[str, Any]) -> tuple[str, ...]:
    last = registry.last_promotion(alias)
    return () if last is None else loosened(registry.version(last.version).statement.predicate, evidence)


def _other_adapter(adapter: Adapter | None, recipe: RecipeResult, store: Path) -> Iterator[str]:
    """Where the bytes in the store are not those that were measured, or were made of something else."""
    if adapter is None:
        yield f"its adapter is not whole in {store}; run the suites again"
        return
    if adapter.digest != recipe.adapter_digest:
        yield "the adapter in the store is not the one that was measured; run the suites again"
    manifest = adapter.manifest
    try:
        base, data = manifest["base"]["digest"], {split: manifest["data_digests"][split] for split in _TRAINED_ON}
    except (KeyError, TypeError):
        yield "the adapter's manifest does not say what it was trained on; remove the adapter and train it again"
        return
    if base != recipe.base_digest:
        yield "the adapter was trained on another base model than it was measured on"
    for split, digest in data.items():
        if digest != recipe.data.get(split, {}).get("sha256"):
            yield f"the adapter was trained on other {split} data than the run says"


def _moved_on(places: Places, recipe: RecipeResult) -> Iterator[str]:
    """What in the project is not as it was when the run measured it."""
    for name, digest in recipe.suites.items():
        if _file_digest(places.root / name) != digest:
            yield f"{name} was changed after the run; run the suites again"
    try:
        now = load_recipe(find_recipes(places.recipes)[recipe.name])
    except KeyError:
        yield f"there is no recipe {recipe.name} in {places.recipes} any more"
        return
    except HarnessError as error:
        yield f"the recipe cannot be read any more: {' '.join(str(error).split())}"
        return
    if resolved(now) != recipe.config:
        yield f"{recipe.name}.yaml was changed after the run; run the suites again"
    for split, file in _data_files(now).items():
        if _file_digest(file) != recipe.data.get(split, {}).get("sha256"):
            yield f"the {split} data was changed after the run; run the suites again"


def _unfit_judge(places: Places, recipe: RecipeResult) -> Iterator[str]:
    """Where gates passed by a judge's word, and the record does not bear out that its word counts."""
    if not any(g.verdict.outcome is Outcome.PASS and g.verdict.measure.startswith("judge.") for g in recipe.gates):
        return
    known = recipe.calibration
    if known.get("calibrated") not in (True, False):
        yield "the record does not say whether the judge of its gates was checked; run the suites again"
        return
    if known.get("problem") is not None:
        yield f"gates passed by a judge that may decide nothing: {known['problem']}"
        return
    try:
        rubric = load_rubric(places.rubrics / f"{recipe.name}.yaml")
    except HarnessError as error:
        yield f"the judge's rubric cannot be read any more: {' '.join(str(error).split())}"
        return
    if rubric.digest != known.get("rubric_digest"):
        yield "the judge's rubric was changed after the run; run the suites again"
    kappa = known.get("kappa")
    value = kappa.get("value") if isinstance(kappa, Mapping) else None
    agrees = isinstance(value, int | float) and value >= rubric.min_kappa
    if known["calibrated"] and not agrees:
        found = f"{value:.2f}" if isinstance(value, int | float) else "not known"
        yield f"its judge agrees with people at a kappa of {found}, and the rubric asks for {rubric.min_kappa:g}"


def _data_files(recipe: Recipe) -> dict[str, Path]:
    return {"train": recipe.data.train, "validation": recipe.data.validation, "test": recipe.data.test}


def _file_digest(file: Path) -> str | None:
    try:
        return file_digest(file)
    except (OSError, HarnessError):
        return None


def _edited(recipe: RecipeResult, scores: Sequence[Scores]) -> Iterator[str]:
    """Passes that the run's own scores do not bear out: each gate is decided again, without a model."""
    by_view = {(one.measure, one.view): one for one in scores}
    seed = recipe.config.get("seed", 0)
    for gate in recipe.gates:
        if gate.verdict.outcome is not Outcome.PASS or gate.verdict.asked is None:
            continue
        try:
            again = _decided_again(gate, by_view, seed)
        except (GateError, KeyError) as error:
            yield f"{gate.id}: the scores in the record cannot decide it ({error}); run the suites again"
            continue
        if again.outcome is not Outcome.PASS or not _same(gate.verdict, again):
            yield (
                f"{gate.id}: the report says {_shown(gate.verdict)}, and the scores beside it {_shown(again)}; run the "
                "suites again"
            )


def _decided_again(gate: GateResult, scores: Mapping[tuple[str, str], Scores], seed: int) -> Verdict:
    verdict = gate.verdict
    rule = verdict.asked
    assert rule is not None  # asked by the caller
    name = stopped_name(verdict.measure, gate.id) if rule.early_stop else verdict.measure
    ours = scores[name, verdict.view]
    theirs = None if rule.baseline is None else scores[name, rule.baseline]
    if rule.early_stop:
        # Why it stopped where it did took the order of all examples; that its value is on the right side does not.
        rule = replace(rule, early_stop=False, decide="point", n=None)
    if verdict.slice_name is None:
        return decide(rule, ours, theirs, view=verdict.view, seed=seed)
    found = decide_slices(rule, ours, theirs, view=verdict.view, slices=verdict.slice_name, min_n=1, seed=seed)
    return next((one for one in found if one.slice_value == verdict.slice_value), found[0])


def _same(one: Verdict, other: Verdict) -> bool:
    pairs = ((one.value, other.value), (one.baseline, other.baseline), (one.difference, other.difference))
    near = all(a == b or (a is not None and b is not None and math.isclose(a, b, abs_tol=_ROUNDING)) for a, b in pairs)
    return near and one.n == other.n and one.slice_value == other.slice_value


def _shown(verdict: Verdict) -> str:
    value = "nothing" if verdict.value is None else f"{verdict.value:.3f}"
    return f"{verdict.outcome} with {value} on {verdict.n} examples"
