"""After a move of an alias: the trackers follow, and whatever they say changes nothing of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import TrackingError

if TYPE_CHECKING:
    from harness.cli.output import Output
    from harness.promotion import Move

__all__ = ["follow"]


def follow(root: Path, recipe: str, move: Move, adapter: Path, output: Output, *, quiet: bool = False) -> None:
    """Tell the trackers of the project in `root` where the alias points now.

    adapter: the promoted files. quiet: whether only warnings are printed.
    """
    from harness.promotion import ATTESTATION
    from harness.tracking import AliasMove, follow_promotion, tracking_settings

    try:
        settings = tracking_settings(root, os.environ)
    except TrackingError as error:
        output.problem(f"warning: the trackers were not told: {error}")
        return
    told = AliasMove(
        recipe=recipe,
        alias=move.alias,
        run_id=move.run,
        adapter_digest=move.adapter_digest,
        adapter=adapter,
        attestation=adapter.parent / ATTESTATION,
        counter=move.counter,
    )
    for note in follow_promotion(told, settings, folder=root):
        if not note.ok:
            output.problem(f"warning: {note.tracker} did not follow, and {move.alias} stands: {note.text}")
        elif not quiet:
            output.line(f"{note.tracker}: {note.text}")
