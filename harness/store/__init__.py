"""Artifacts on disk, found by the digest of everything they depend on, and the record of every run."""

from harness.store.answers import StoredAnswers
from harness.store.artifacts import Adapter, Store
from harness.store.checkpoints import Checkpoints
from harness.store.disk import content_key
from harness.store.grades import GradeStore
from harness.store.index import Point, RecipeEntry, RunEntry, RunIndex, ValueEntry
from harness.store.runs import StoredRun, find_run, keep_run, list_runs, read_run
from harness.store.scores_form import read_scores, scores_json

__all__ = [
    "Adapter",
    "Checkpoints",
    "GradeStore",
    "Point",
    "RecipeEntry",
    "RunEntry",
    "RunIndex",
    "Store",
    "StoredAnswers",
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
