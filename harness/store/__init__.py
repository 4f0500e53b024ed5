"""Artifacts on disk, found by the digest of everything they depend on."""

from harness.store.answers import StoredAnswers
from harness.store.artifacts import Adapter, Store
from harness.store.checkpoints import Checkpoints
from harness.store.disk import content_key

__all__ = ["Adapter", "Checkpoints", "Store", "StoredAnswers", "content_key"]
