"""A store with a recorded run, and an adapter that was promoted on its evidence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import report_runs

from harness.promotion import Move, Registry, envelope
from harness.records import Run
from harness.report import report_json
from harness.store import keep_run

FILES = {
    "adapter_config.json": b'{"r": 16}',
    "adapter_model.safetensors": b"\x00" * 2_000 + b"weights",
    "manifest.json": b"{}",
    "tokenizer.json": b"{}",
}


def record(store: Path, run: Run | None = None) -> Run:
    run = run or report_runs.run()
    keep_run(store, run.run_id, report_json(run), {})
    return run


def promote(store: Path, run: Run, *, recipe: str = "invoices", **changes: Any) -> Move:
    """Promote an adapter with the digest that the run says; changes: of the files, None for one that is not there."""
    files = {**FILES, **changes.pop("files", {})}
    adapter = store / "made" / run.run_id
    for name, content in files.items():
        (adapter / name).parent.mkdir(parents=True, exist_ok=True)
        (adapter / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    digest = str(next(r.adapter_digest for r in run.recipes if r.name == recipe))
    registry = Registry(store, recipe)
    alias = changes.get("alias", "production")
    live = registry.live(alias)
    return registry.promote(
        adapter,
        digests,
        alias=alias,
        expected=None if live is None else live.counter,
        time="2026-11-23T15:00:00+00:00",
        reason="",
        run=run.run_id,
        adapter_digest=digest,
        attest=lambda version: envelope(digests, {"adapter": {"digest": digest}, "recipe": recipe}, None),
    )


def roll_back(store: Path, to: int, *, recipe: str = "invoices") -> Move:
    registry = Registry(store, recipe)
    live = registry.live("production")
    assert live is not None
    return registry.roll_back(
        registry.checked(to), alias="production", expected=live.counter, time="2026-11-23T16:00:00+00:00", reason=""
    )


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def payload(attestation: bytes) -> dict[str, Any]:
    import base64

    statement: dict[str, Any] = json.loads(base64.b64decode(json.loads(attestation)["payload"]))
    return statement
