"""How much is computed at once, by what is free."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.engine import memory
from harness.errors import ScoringError


def shaped(**changes: Any) -> Any:
    """What the sizes are read from: an 8B-shaped model in bfloat16."""
    config = SimpleNamespace(
        **{
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128_256,
            **changes,
        }
    )
    config.get_text_config = lambda: config
    return SimpleNamespace(config=config, dtype=torch.bfloat16)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda gigabytes: monkeypatch.setattr(memory, "free_memory", lambda device: int(gigabytes * 1e9))


def test_answers_fill_a_quarter_of_what_is_free(free: Any) -> None:
    each = 2 * 32 * 8 * 128 * 2 * 1000  # keys and values of 1,000 tokens
    free(16)
    assert memory.answers_at_once(shaped(), 1000, "cuda") == int(16e9 // 4 // each) == 30
    free(1000)
    assert memory.answers_at_once(shaped(), 1000, "cuda") == 64
    free(0.1)
    assert memory.answers_at_once(shaped(), 1000, "cuda") == 1


def test_a_model_without_attention_heads_gets_a_few_answers_at_once(free: Any) -> None:
    free(16)
    assert memory.answers_at_once(shaped(num_attention_heads=None, num_key_value_heads=None), 1000, "cuda") == 8


@pytest.mark.parametrize(("gigabytes", "more"), [(4, 8), (8, 40)])
def test_rows_on_a_gpu_grow_with_its_memory_and_hold_the_longest_text(free: Any, gigabytes: int, more: int) -> None:
    free(gigabytes)
    small = [
        memory.token_budget(shaped(), 10, "cuda"),
        memory.training_budget(shaped(), 10, "cuda", checkpointing=True),
        memory.training_budget(shaped(), 10, "cuda", checkpointing=False),
    ]
    free(more)
    large = [
        memory.token_budget(shaped(), 10, "cuda"),
        memory.training_budget(shaped(), 10, "cuda", checkpointing=True),
        memory.training_budget(shaped(), 10, "cuda", checkpointing=False),
    ]
    assert all(10 < few < many <= 16384 for few, many in zip(small, large, strict=True))
    assert large[2] < large[1]
    free(0.001)
    assert memory.token_budget(shaped(), 5000, "cuda") == 5000
    assert memory.training_budget(shaped(), 5000, "cuda", checkpointing=True) == 5000


def test_rows_on_a_cpu_are_as_measured() -> None:
    assert memory.token_budget(shaped(), 10, "cpu") == 1024
    assert memory.token_budget(shaped(), 500, "cpu") == 3000
    assert memory.token_budget(shaped(), 2000, "cpu") == 4096
    assert memory.token_budget(shaped(), 5000, "cpu") == 5000
    assert memory.training_budget(shaped(), 10, "cpu", checkpointing=False) == 1024
    assert memory.training_budget(shaped(), 2000, "cpu", checkpointing=False) == 2000


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_sizes_are_halved_until_they_fit(error: RuntimeError) -> None:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 300:
            raise error

    assert memory.halving(attempt, 1024, smallest=100, what="tokens at once") == 256
    assert tried == [1024, 512, 256]
    tried.clear()
    with pytest.raises(ScoringError, match=r"^memory does not suffice for 400 tokens at once\. Free some"):
        memory.halving(attempt, 1024, smallest=400, what="tokens at once")
    assert tried == [1024, 512, 400]
