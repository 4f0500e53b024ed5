"""A project with an adapter of a few bytes and recorded runs of it: what can be promoted, without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tiny

from harness.data import file_digest
from harness.gates import decide, rule_from
from harness.pipeline import Places
from harness.recipes import load_recipe, resolved
from harness.records import GateResult, IntegrityCheck, Outcome, RecipeResult, Run, Scores
from harness.report import report_json
from harness.store import Adapter, Store, keep_run

ACCURACY = "classification.accuracy"
NAME = "animals"
_BASE_DIGEST = "ba" * 32


def save(root: Path) -> Places:
    """The tiny project with a base model that cannot be loaded, and the store's adapter of it."""
    model = root / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    places = Places.below(tiny.save_project(root / "project", model))
    keep_adapter(places, b"weights")
    return places


def keep_adapter(places: Places, weights: bytes) -> Adapter:
    """An adapter whose fingerprint is that of its weights."""
    store = Store(places.store)
    data = _data(places)
    manifest = {
        "global_step": 1,
        "max_steps": 1,
        "base": {"name": "tiny", "digest": _BASE_DIGEST},
        "data_digests": {split: part["sha256"] for split, part in data.items()},
    }
    with store.work_folder() as work:
        (work / "adapter").mkdir()
        (work / "adapter" / "adapter_model.safetensors").write_bytes(weights)
        (work / "adapter" / "adapter_config.json").write_text("{}")
        return store.keep_adapter(work / "adapter", fingerprint_of(weights), manifest)


def fingerprint_of(weights: bytes) -> str:
    return hashlib.sha256(weights).hexdigest()


def scores(view: str = "adapter", *, right: int = 23, n: int = 24, measure: str = ACCURACY) -> Scores:
    """Right on the first `right` of n examples."""
    return Scores(
        measure=measure,
        view=view,
        ids=tuple(f"test-{k}" for k in range(n)),
        values=tuple(float(k < right) for k in range(n)),
        n_expected=n,
    )


def gate(
    ours: Scores | None = None, theirs: Scores | None = None, *, test: str = "test_accuracy", **asked: Any
) -> GateResult:
    """A decided gate; by default that the adapter's accuracy is at least 0.5."""
    ours = ours or scores()
    rule = rule_from(**(asked or {"at_least": 0.5}), bounds=(0.0, 1.0), measure=ours.measure, view=ours.view)
    verdict = decide(rule, ours, theirs, view=ours.view)
    return GateResult(f"{NAME}/{test}/{ours.measure}", f"suites/test_animals.py::{test}[{NAME}]", verdict)


def result(places: Places, *gates: GateResult, weights: bytes = b"weights", **changes: Any) -> RecipeResult:
    """What a run that is in order says of the recipe."""
    adapter = Store(places.store).adapter(fingerprint_of(weights))
    assert adapter is not None
    recipe = load_recipe(places.recipes / f"{NAME}.yaml")
    suite = places.root / "suites" / "test_animals.py"
    known = RecipeResult(
        name=NAME,
        base="tiny",
        fingerprint=adapter.fingerprint,
        adapter_digest=adapter.digest,
        from_store=True,
        training=None,
        measures=(),
        gates=gates or (gate(),),
        integrity=(IntegrityCheck("keys_loaded", True, "28 keys, none missing and none unknown"),),
        config=resolved(recipe),
        data=_data(places),
        base_digest=_BASE_DIGEST,
        suites={"suites/test_animals.py": file_digest(suite)},
        tests={"collected": 1, "passed": 1, "named": []},
    )
    return replace(known, **changes)


def run(*recipes: RecipeResult, **changes: Any) -> Run:
    now = datetime.now(UTC)
    known = Run(
        run_id=f"{now:%Y%m%d-%H%M%S-%f}",
        outcome=Outcome.PASS,
        started_at=now.isoformat(timespec="seconds"),
        duration_seconds=1.5,
        provenance={"harness": "0.1.0", "versions": {"torch": "2.13.0"}, "git": {"commit": "c0", "dirty": False}},
        recipes=recipes,
    )
    return replace(known, **changes)


def record(places: Places, recorded: Run, of_recipe: Sequence[Scores] = ()) -> str:
    """Keep the run and its scores; the id."""
    measured = of_recipe or (scores(), scores("base", right=10), scores("promoted", right=22))
    keep_run(places.store, recorded.run_id, report_json(recorded), {NAME: measured})
    return recorded.run_id


def _data(places: Places) -> dict[str, dict[str, Any]]:
    folder = places.recipes.parent / "data"
    return {
        split: {"examples": n, "sha256": file_digest(folder / f"{split}.jsonl")}
        for split, n in (("train", 96), ("validation", 8), ("test", 24))
    }
