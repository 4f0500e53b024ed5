"""Weights & Biases: one W&B run a recipe, and a model artifact with the alias after a promotion.

Runs in a process of its own. Project, entity, mode and key are W&B's own variables (WANDB_PROJECT, WANDB_MODE, ...).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["keep_promotion", "keep_run"]

_PROJECT = "adapter-harness"
# What a gate is shown by; the rest is in report.json.
_COLUMNS = ("id", "measure", "view", "rule", "outcome", "value", "low", "high", "n", "reason")


def keep_run(run: dict[str, Any], timeout: float) -> str:
    """See `__main__.Tracker`. Curves are the run's history, measures its summary, gates a table."""
    return _places([_keep_recipe(recipe, run["files"], timeout) for recipe in run["recipes"]])


def keep_promotion(promotion: dict[str, Any], timeout: float) -> str:
    """See `__main__.Tracker`. The same files are the same version of the artifact, whose alias moves."""
    import wandb

    name = promotion["recipe"]
    facts = {key: promotion[key] for key in ("recipe", "run_id", "adapter_digest", "counter")}
    run = _start(f"{name} {promotion['alias']}", promotion["run_id"], "promotion", {"harness": facts}, timeout)
    artifact = wandb.Artifact(name, type="model", metadata=facts)
    artifact.add_dir(promotion["adapter"], name="adapter")
    if promotion["attestation"] is not None:
        artifact.add_file(promotion["attestation"], name=f"attestation/{os.path.basename(promotion['attestation'])}")
    run.log_artifact(artifact, aliases=[promotion["alias"]])
    return _places([_finish(run)])


def _keep_recipe(recipe: Mapping[str, Any], files: list[str], timeout: float) -> str:
    import wandb

    config = {"recipe": recipe["params"], "harness": recipe["tags"]}
    run = _start(f"{recipe['recipe']} {recipe['run_id']}", recipe["run_id"], "gates", config, timeout)
    by_step: dict[int, dict[str, float]] = {}
    for name, curve in recipe["curves"].items():
        for step, value in curve:
            by_step.setdefault(step, {})[name] = value
    for step in sorted(by_step):
        run.log(by_step[step], step=step)
    run.summary.update({"outcome": recipe["outcome"], **recipe["measures"]})
    if recipe["gates"]:
        # As text: W&B gives a column one type, and a figure may be missing.
        rows = [["" if gate[key] is None else str(gate[key]) for key in _COLUMNS] for gate in recipe["gates"]]
        run.log({"gates": wandb.Table(columns=list(_COLUMNS), data=rows)})
    report = wandb.Artifact(f"{recipe['recipe']}-report", type="report")
    for file in files:
        report.add_file(file)
    run.log_artifact(report)
    return _finish(run)


def _start(name: str, group: str, kind: str, config: dict[str, Any], timeout: float) -> Any:
    import wandb

    settings = wandb.Settings(
        init_timeout=timeout,
        console="off",
        silent=True,
        # Only what the run says: not the machine, the code or the command line.
        disable_code=True,
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    project = os.environ.get("WANDB_PROJECT") or _PROJECT
    return wandb.init(project=project, name=name, group=group, job_type=kind, config=config, settings=settings)


def _finish(run: Any) -> str:
    """Ends the run and says where it is: an address, or the folder that `wandb sync` sends."""
    url, folder = run.url, os.path.dirname(run.dir)
    run.finish()
    return str(url) if url else os.path.relpath(folder)


def _places(places: list[str]) -> str:
    return places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"
