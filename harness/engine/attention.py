"""Attention over packed rows that looks only at what a token may see.

A row holds many sequences behind shared prefixes, so most of its square of tokens is forbidden. Blocks of
consecutive tokens are computed together, each with the keys of its ancestors and of itself: a row of 1,024 tokens
whose sequences have 150 costs about a fifth of the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BLOCK", "IMPLEMENTATION", "block_mask"]

IMPLEMENTATION = "harness_rows"
BLOCK = 64
"""Tokens that are computed together; rows are filled up to a multiple of it."""


def block_mask(ends: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """What each block of a row sees: token i sees j exactly if j <= i < ends[j].

    ends: of L tokens in depth-first order, L a multiple of BLOCK. Returns (L / BLOCK, K) int64 indices of keys, and
    (L / BLOCK, 1, BLOCK, K) bool, True where a token of the block may look at that key. K is the largest number of
    keys that a block needs; others are filled up with keys that none of their tokens sees.
    """
    keys: list[list[int]] = []
    path: list[int] = []  # the ancestors of the token, and then the token
    for token in range(len(ends)):
        while path and ends[path[-1]] <= token:
            path.pop()
        if token % BLOCK == 0:
            keys.append([*path, *range(token, token + BLOCK)])
        path.append(token)
    most = max(map(len, keys))
    index = torch.tensor([block + [len(ends)] * (most - len(block)) for block in keys])
    tokens = torch.arange(len(ends)).view(-1, BLOCK, 1)
    end = torch.tensor([*ends, 0])[index]  # what only fills up ends before every token
    seen = (index[:, None, :] <= tokens) & (tokens < end[:, None, :])
    return index.clamp(max=len(ends) - 1).to(device), seen[:, None].to(device)


def row_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    row_keys: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: scaled dot-product attention, by blocks where row_keys says so.

    query: (1, H, L, D), key and value: (1, H_kv, L, D). attention_mask, row_keys: of `block_mask`.
    Returns (1, L, H, D).
    """
    if row_keys is None:
        output: Tensor
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output, None
    (heads, length, width), shared, (blocks, seen) = query[0].shape, key.shape[1], row_keys.shape
    # Query heads that share a key head stand below each other in one block, so keys are not copied for each.
    queries = (
        query[0].reshape(shared, -1, blocks, BLOCK, width).permute(2, 0, 1, 3, 4).reshape(blocks, shared, -1, width)
    )
    keys, values = (
        given[0].index_select(1, row_keys.flatten()).view(shared, blocks, seen, -1).transpose(0, 1)
        for given in (key, value)
    )
    if attention_mask is None:
        raise ValueError("row_keys come with the mask that block_mask made beside them")
    found = torch.nn.functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=attention_mask.repeat(1, 1, heads // shared, 1),
        dropout_p=dropout if module.training else 0.0,
        scale=scaling,
    )
    rows = found.view(blocks, shared, -1, BLOCK, found.shape[-1]).permute(0, 3, 1, 2, 4)
    return rows.reshape(1, length, heads, -1), None


AttentionInterface.register(IMPLEMENTATION, row_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
