"""Artifacts on disk, found by the digest of everything they depend on."""

from harness.store.artifacts import Adapter, Store, content_key

__all__ = ["Adapter", "Store", "content_key"]
