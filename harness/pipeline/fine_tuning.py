"""A recipe's adapter as the store keeps it: trained, with a manifest that says how."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.engine.base_models import BaseModel
from harness.pipeline.identity import code_digest, library_versions
from harness.pipeline.remembering import finite
from harness.progress import Progress
from harness.recipes import Recipe, resolved
from harness.records import Example, TrainingSummary
from harness.store import Adapter, Store

if TYPE_CHECKING:
    from harness.engine.models import LoadedModel

__all__ = ["TRAINING_CODE", "train_into_store", "training_summary"]

TRAINING_CODE = tuple(
    f"engine/{name}.py"
    for name in (
        "attention",
        "chat",
        "checkpoints",
        "head",
        "layers",
        "memory",
        "models",
        "packing",
        "scoring",
        "training",
    )
)
"""The modules that decide what a training makes of its data."""


def train_into_store(
    loaded: LoadedModel,
    recipe: Recipe,
    *,
    train: Sequence[Example],
    validation: Sequence[Example],
    base: BaseModel,
    data_digests: Mapping[str, str],
    fingerprint: str,
    store: Store,
    progress: Progress,
) -> Adapter:
    """Train on the loaded base model, and keep the adapter under its fingerprint. Raises what training raises."""
    from harness.engine.training import hardware, train_adapter

    with store.work_folder() as work:
        result = train_adapter(
            loaded,
            train=train,
            validation=validation,
            lora=recipe.lora,
            training=recipe.training,
            seed=recipe.seed,
            folder=work,
            progress=progress,
            checkpoints=store.checkpoints(fingerprint),
        )
        manifest = {
            "recipe": resolved(recipe),
            "base": {"name": base.name, "digest": base.digest},
            "data_digests": data_digests,
            "versions": library_versions(),
            "engine_version": code_digest(*TRAINING_CODE),
            "hardware": hardware(loaded.device),
            "global_step": result.steps,
            "max_steps": result.max_steps,
            "seconds": round(result.seconds, 3),
            "tokens": result.example_tokens,
            "computed_tokens": result.tokens,
            "row_tokens": result.row_tokens,
            "packed": result.packed,
            "resumed": result.resumed,
            "loss": result.loss,
            "validation_loss": result.validation_loss,
        }
        return store.keep_adapter(work, fingerprint, manifest)


def training_summary(manifest: Mapping[str, Any]) -> TrainingSummary | None:
    """How an adapter was trained; None where its manifest, which nothing has a digest of, does not say it."""
    try:
        curves = {name: tuple((int(s), float(v)) for s, v in manifest[name]) for name in ("loss", "validation_loss")}
        training = TrainingSummary(
            seconds=float(manifest["seconds"]),
            tokens=int(manifest["tokens"]),
            steps=int(manifest["global_step"]),
            max_steps=int(manifest["max_steps"]),
            **curves,
        )
    except (KeyError, TypeError, ValueError):
        return None
    return training if finite(dataclasses.asdict(training)) else None
