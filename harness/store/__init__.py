"""Artifacts on disk, found by the digest of everything they depend on, and the record of every run."""

from harness.store.artifacts import Adapter, Store, content_key
from harness.store.index import Point, RecipeEntry, RunEntry, RunIndex, ValueEntry
from harness.store.runs import StoredRun, find_run, keep_run, list_runs, read_run
from harness.store.scores_form import read_scores, scores_json

__all__ = [
    "Adapter",
    "Point",
    "RecipeEntry",
    "RunEntry",
    "RunIndex",
    "Store",
    "StoredRun",
    "ValueEntry",
    "content_key",
    "find_run",
    "keep_run",
    "list_runs",
    "read_run",
    "read_scores",
    "scores_json",
]
