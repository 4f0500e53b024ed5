"""Data sets: JSON Lines files to examples, and checks within and between splits."""

from __future__ import annotations

from harness.data.reading import file_digest, read_split
from harness.data.splits import check_splits, few_shot_examples

__all__ = ["check_splits", "few_shot_examples", "file_digest", "read_split"]
