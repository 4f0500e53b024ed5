"""Prompts that begin alike: their shared beginning is read once and handed to `generate` as a key-value cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SharedPrompt", "kept_tokens", "prompt_tensors", "shared_length"]


_ROOM = 64
"""Tokens for which a cache has room at least when it grows."""


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts have in common, leaving every prompt at least one of its own."""
    first, last = (
        min(map(tuple, prompts)),
        max(map(tuple, prompts)),
    )  # all others lie between them, so they share at least as much
    limit = min(map(len, prompts)) - 1
    return next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))


def prompt_tensors(
    prompts: Sequence[Sequence[int]], *, shared: int, filling: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """(B, L) int64 token ids and attention mask: the `shared` leading tokens, filling, then what each has of its own.

    All prompts end in the last column, where their answers begin, and the shared part stands in the same columns
    for all. The mask is 0 on the filling, so positions count only the prompt's own tokens.
    """
    longest = max(map(len, prompts))
    tokens = torch.full((len(prompts), longest), filling)
    mask = torch.zeros_like(tokens)
    for line, prompt in enumerate(prompts):
        own = longest - (len(prompt) - shared)
        tokens[line, :shared] = torch.tensor(prompt[:shared], dtype=torch.long)
        tokens[line, own:] = torch.tensor(prompt[shared:], dtype=torch.long)
        mask[line, :shared] = 1
        mask[line, own:] = 1
    return tokens.to(device), mask.to(device)


class SharedPrompt:
    """The key-value cache of a prompt's beginning, computed on first use.

    `length` is 0 where the model keeps anything but plain keys and values of every token (sliding windows,
    recurrent states): such a cache cannot be lent to several prompts, and each is read whole.
    """

    def __init__(self, model: Any, tokens: Sequence[int], device: torch.device | str) -> None:
        self._cache = _read(model, tokens, device) if tokens else None
        self.length = len(tokens) if self._cache is not None else 0

    def cache(self, batch_size: int) -> DynamicCache | None:
        """A copy for `batch_size` prompts, which `generate` may change; None where nothing is shared."""
        if self._cache is None:
            return None
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(batch_size)
        cache.layers = [_RoomyLayer.of(layer) for layer in cache.layers]
        return cache


def kept_tokens(cache: Any) -> bool:
    """Whether a cache holds nothing but the keys and values of every token, so that lines can be dropped or copied."""
    return type(cache) is DynamicCache and all(type(layer) in (DynamicLayer, _RoomyLayer) for layer in cache.layers)


class _RoomyLayer(DynamicLayer):
    """Keys and values with room behind them for the next tokens; DynamicLayer copies all of them for every token.

    keys, values: (B, H, L, D) views of the first L tokens in `room`, two tensors of (B, H, at least L, D).
    """

    keys: Tensor
    values: Tensor
    room: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, layer: DynamicLayer) -> _RoomyLayer:
        roomy = cls()
        roomy.__dict__.update(layer.__dict__)
        return roomy

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        room = self.room
        if room is None or self.keys.data_ptr() != room[0].data_ptr() or end > room[0].shape[-2]:
            # There was none, lines have left the batch, or it is full.
            room = self.room = (_room(key_states, end), _room(value_states, end))
            if start:
                room[0][:, :, :start], room[1][:, :, :start] = self.keys, self.values
        room[0][:, :, start:end], room[1][:, :, start:end] = key_states, value_states
        self.keys, self.values = room[0][:, :, :end], room[1][:, :, :end]
        return self.keys, self.values


def _room(states: Tensor, tokens: int) -> Tensor:
    return states.new_empty(*states.shape[:2], tokens + max(_ROOM, tokens // 4), states.shape[3])


def _read(model: Any, tokens: Sequence[int], device: torch.device | str) -> DynamicCache | None:
    with torch.inference_mode():
        cache = model(input_ids=torch.tensor([list(tokens)], device=device), use_cache=True, logits_to_keep=1)
    cache = getattr(cache, "past_key_values", None)
    return cache if kept_tokens(cache) else None
