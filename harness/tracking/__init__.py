"""Runs and promotions told to MLflow and Weights & Biases: never more than a copy, and never part of a verdict.

Each tracker runs in a process of its own with a time limit, see `dispatch`; its library is imported only there.
"""

from __future__ import annotations

from harness.tracking.dispatch import Note, follow_promotion, track_run
from harness.tracking.facts import AliasMove, TrackedRecipe, tracked_recipes
from harness.tracking.settings import TRACKERS, TrackingSettings, tracking_settings

__all__ = [
    "TRACKERS",
    "AliasMove",
    "Note",
    "TrackedRecipe",
    "TrackingSettings",
    "follow_promotion",
    "track_run",
    "tracked_recipes",
    "tracking_settings",
]
