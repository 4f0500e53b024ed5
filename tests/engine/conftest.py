"""Models that several files of this folder use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine.models import LoadedModel, load_base

FLOAT32 = {"bnb_4bit_compute_dtype": "float32"}


@pytest.fixture
def tiny_loaded(tiny_model: Path) -> Iterator[LoadedModel]:
    """The tiny llama in float32, where different orders of summation agree to many digits."""
    loaded = load_base(tiny_model, FLOAT32, "cpu")
    yield loaded
    loaded.close()
