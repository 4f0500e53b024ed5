"""Attention by blocks, with the gradient that is computed here on a CPU, beside torch's own over the whole row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from harness.engine.attention import BLOCK, block_mask, row_attention
from harness.engine.packing import TokenSequence, pack

HEADS, SHARED, WIDTH = 6, 2, 16


def forest(length: int) -> list[int]:
    """The ends of a row of `length` tokens with several prefixes."""
    draw = torch.Generator().manual_seed(0)
    sequences = [
        TokenSequence((1, 2, group, *range(3, 20)), tuple(torch.randint(0, 50, (30,), generator=draw).tolist()))
        for group in range(3, 9)
    ]
    ((row,),) = pack(sequences, budget=10_000)
    assert len(row) >= length
    return [min(end, length) for end in row.ends[:length]]


def inputs(length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(2)
    return [torch.randn(1, heads, length, WIDTH, dtype=dtype) for heads in (HEADS, SHARED, SHARED)]


def by_blocks(given: list[torch.Tensor], ends: list[int], dropout: float = 0.0) -> torch.Tensor:
    keys, mask = block_mask(ends, "cpu")
    module = SimpleNamespace(training=True)
    return row_attention(module, *given, mask, dropout=dropout, row_keys=keys)[0]


def whole(given: list[torch.Tensor], ends: list[int]) -> torch.Tensor:
    index, end = torch.arange(len(ends)), torch.tensor(ends)
    seen = (index[None] <= index[:, None]) & (index[:, None] < end[None])
    query, key, value = given
    return scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True).transpose(1, 2)


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 16, 3 * BLOCK - 5])
@pytest.mark.parametrize("recording", [True, False])
def test_values_and_gradients_are_those_of_the_whole_square(length: int, recording: bool) -> None:
    ends = forest(length)
    ours, theirs = ([x.requires_grad_(recording) for x in inputs(length, torch.float32)] for _ in range(2))
    found, expected = by_blocks(ours, ends), whole(theirs, ends)
    assert found.shape == (1, length, HEADS, WIDTH)
    torch.testing.assert_close(found, expected)
    if recording:
        slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
        found.backward(slope)
        expected.backward(slope)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.grad, other.grad)


def test_autocast_changes_nothing_in_bfloat16() -> None:
    """It would compute the weights in float32, and their product with values in bfloat16 would fail."""
    length = BLOCK + 16
    ends = forest(length)
    given = [x.requires_grad_() for x in inputs(length, torch.bfloat16)]
    with torch.autocast("cpu", torch.bfloat16):
        found = by_blocks(given, ends)
    assert found.dtype == torch.bfloat16
    found.sum().backward()
    exact = whole([x.detach().float() for x in given], ends)
    assert torch.linalg.norm(found.detach().float() - exact) <= 0.02 * torch.linalg.norm(exact)
    assert all(x.grad is not None and bool(torch.isfinite(x.grad).all()) for x in given)


def test_dropout_is_torchs() -> None:
    ends = forest(BLOCK)
    given = [x.requires_grad_() for x in inputs(BLOCK, torch.float32)]
    torch.manual_seed(4)
    dropped = by_blocks(given, ends, dropout=0.5)
    assert not torch.allclose(dropped, by_blocks(given, ends))
