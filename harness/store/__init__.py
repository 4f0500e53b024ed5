"""Artifacts on disk, found by the digest of everything they depend on."""

from harness.store.artifacts import Adapter, Store, content_key
from harness.store.grades import GradeStore

__all__ = ["Adapter", "GradeStore", "Store", "content_key"]
