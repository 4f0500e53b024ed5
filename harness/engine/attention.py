"""Attention over packed rows that looks only at what a token may see.

A row holds many sequences behind shared prefixes, so most of its square of tokens is forbidden. Blocks of
consecutive tokens are computed together, each with the keys of its ancestors and of itself: a row of 1,024 tokens
whose sequences have 150 costs about a fifth of the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BLOCK", "IMPLEMENTATION", "block_mask", "compute_type", "visible_blocks", "visible_square"]

IMPLEMENTATION = "harness_rows"
BLOCK = 64
"""Tokens that are computed together; the last ones of a row are filled up to as many, for attention alone."""


def compute_type(device_type: str, otherwise: torch.dtype) -> torch.dtype:
    """What autocast computes products in where it is switched on, as `bf16: true` does in a training."""
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else otherwise


def block_mask(ends: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """What each block of a row sees: token i sees j exactly if j <= i < ends[j].

    ends: of L tokens in depth-first order, which make B = ceil(L / BLOCK) blocks. Returns (B, K) int64 indices of
    keys, and (B, 1, BLOCK, K) bool, True where a token of the block may look at that key. K is the largest number of
    keys that a block needs; others are filled up with keys that none of their tokens sees. A token that only fills up
    the last block sees one key, since attention over nothing would be NaN.
    """
    keys: list[list[int]] = []
    path: list[int] = []  # the ancestors of the token, and then the token
    for token in range(len(ends)):
        while path and ends[path[-1]] <= token:
            path.pop()
        if token % BLOCK == 0:
            keys.append([*path, *range(token, token + BLOCK)])
        path.append(token)
    return _blocks(keys, range(len(ends)), ends, device)


def visible_blocks(
    order: Sequence[int], ends: Sequence[int], paths: Sequence[Sequence[int]], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """As `block_mask`, for tokens that are read behind others, whose keys are kept.

    order, ends: (K + L) of all tokens: t sees k exactly if order[k] <= order[t] < ends[k]. paths: for each of the last
    L, which are asked here and in ascending order, the tokens before it that it sees.
    """
    read = len(order) - len(paths)
    keys = []
    for start in range(0, len(paths), BLOCK):
        own = range(read + start, read + start + BLOCK)
        seen = {token for path in paths[start : start + BLOCK] for token in path}
        keys.append([*sorted(seen.difference(own)), *own])
    return _blocks(keys, order, ends, device)


def visible_square(order: Sequence[int], ends: Sequence[int], asked: int, device: torch.device | str) -> Tensor:
    """(1, 1, asked, K) bool: which of all K tokens each of the last `asked` may look at, as in `visible_blocks`."""
    every, end = torch.tensor(order, device=device), torch.tensor(ends, device=device)
    mine = every[-asked:, None]
    return ((every <= mine) & (mine < end))[None, None]


def _blocks(
    keys: Sequence[Sequence[int]], order: Sequence[int], ends: Sequence[int], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """keys: of each block, its own tokens last; those that fill up the last block follow all others."""
    last = len(order) - 1
    filling = range(max(*order, *ends) + 1, max(*order, *ends) + 1 + keys[-1][-1] - last)
    first = torch.tensor([*order, *filling, 0])
    end = torch.tensor([*ends, *(place + 1 for place in filling), 0])
    most, nothing = max(map(len, keys)), len(first) - 1  # a key that no token sees: it ends before every one
    index = torch.tensor([[*block, *[nothing] * (most - len(block))] for block in keys])
    tokens = first[torch.tensor([block[-BLOCK:] for block in keys])][:, :, None]
    seen = (first[index][:, None, :] <= tokens) & (tokens < end[index][:, None, :])
    return index.clamp(max=last).to(device), seen[:, None].to(device)


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
    if attention_mask is None:
        raise ValueError("row_keys come with the mask that block_mask made beside them")
    (heads, length, width), shared, (blocks, seen) = query[0].shape, key.shape[1], row_keys.shape
    # Query heads that share a key head stand below each other in one block, so keys are not copied for each.
    filled = pad(query[0], (0, 0, 0, blocks * BLOCK - length)).reshape(shared, -1, blocks, BLOCK, width)
    queries = filled.permute(2, 0, 1, 3, 4).reshape(blocks, shared, -1, width)
    keys, values = (
        given[0].index_select(1, row_keys.flatten()).view(shared, blocks, seen, -1).transpose(0, 1)
        for given in (key, value)
    )
    dropped = dropout if module.training else 0.0
    found: Tensor
    if query.device.type == "cpu" and torch.is_grad_enabled() and not dropped:
        scale = width**-0.5 if scaling is None else scaling
        mask = _added(attention_mask, heads // shared, compute_type("cpu", query.dtype))
        found = _Attention.apply(queries, keys, values, mask, scale)  # type: ignore[no-untyped-call]
    else:
        mask = _added(attention_mask, heads // shared, query.dtype)
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropped, scale=scaling)
    rows = found.view(blocks, shared, -1, BLOCK, found.shape[-1]).permute(0, 3, 1, 2, 4)
    return rows.reshape(1, -1, heads, found.shape[-1])[:, :length], None


def _added(mask: Tensor, times: int, kind: torch.dtype) -> Tensor:
    """(B, 1, times x Q, K): 0 where `mask`, (B, 1, Q, K), is True, else minus infinity: what is added to scores.

    Made once for all layers of a row, and kept with the mask: torch would make it in each, a sixth to a third of the
    time of its attention on a CPU.
    """
    known: Tensor | None = getattr(mask, "added", None)
    if known is None or known.dtype != kind or known.shape[2] != times * mask.shape[2]:
        known = torch.where(mask, 0.0, float("-inf")).to(kind).repeat(1, 1, times, 1)
        mask.added = known  # type: ignore[attr-defined]
    return known


class _Attention(torch.autograd.Function):
    """softmax(scale Q K' + mask) V, whose weights are kept for the backward pass: rows are cut into small blocks, and
    on a CPU torch's own backward pass, which computes them again, takes almost twice as long.

    queries: (B, H, Q, D), keys and values: (B, H, K, D), mask: (B, 1, Q, K), of `_added`, in the type of the products.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        kind = compute_type(queries.device.type, queries.dtype)
        with torch.autocast(queries.device.type, enabled=False):  # it would compute the softmax in float32
            q, k, v = (given.flatten(0, 1).to(kind) for given in (queries, keys, values))
            scores = mask.expand(*queries.shape[:3], -1).flatten(0, 1).baddbmm(q, k.mT, alpha=scale)
            weights = scores.softmax(-1)
            ctx.save_for_backward(q, k, v, weights)
            ctx.scale, ctx.heads = scale, queries.shape[:2]
            output: Tensor = weights.bmm(v).view(queries.shape[:-1] + v.shape[-1:])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        q, k, v, weights = ctx.saved_tensors
        with torch.autocast(q.device.type, enabled=False):
            flowing = gradients[0].flatten(0, 1)
            scores = torch._softmax_backward_data(flowing.bmm(v.mT), weights, -1, weights.dtype).mul_(ctx.scale)
            found = (scores.bmm(k), scores.mT.bmm(q), weights.mT.bmm(flowing))
        return *(gradient.view(*ctx.heads, *gradient.shape[1:]) for gradient in found), None, None


AttentionInterface.register(IMPLEMENTATION, row_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
