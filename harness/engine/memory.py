"""How much to compute at once: chosen for the device's memory, and halved where that proves too much."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import psutil
import torch

from harness.errors import ScoringError

__all__ = [
    "answers_at_once",
    "free_memory",
    "halving",
    "out_of_memory",
    "release_memory",
    "token_budget",
    "training_budget",
]

_MOST_ANSWERS = 64
_ANSWERS_UNKNOWN = 8  # for a model without attention heads, whose memory is not keys and values


def free_memory(device: str) -> int:
    """Bytes that may still be used on the device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def release_memory() -> None:
    """Give memory that nothing uses back to the system.

    Rows differ in length, so glibc's heap fragments: without this, training the embedded model on a CPU grew by
    0.6 GB in 40 steps.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device's memory ran out; on a CPU torch raises a plain RuntimeError for that."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def halving(attempt: Callable[[int], None], size: int, *, smallest: int, what: str) -> int:
    """Call `attempt` with `size`, and with half of it each time memory runs out; returns the size that sufficed.

    An attempt goes on where the one before it stopped, or begins anew. Raises ScoringError if memory does not
    suffice for `smallest`.
    """
    while True:
        try:
            attempt(size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size <= smallest:
                raise ScoringError(
                    f"memory does not suffice for {size} {what}. Free some on the device, or use a shorter text "
                    "or a smaller model."
                ) from error
        else:
            return size
        size = max(size // 2, smallest)  # outside the handler, whose traceback holds what is to be freed
        release_memory()


def answers_at_once(model: Any, length: int, device: str) -> int:
    """Prompts of `length` tokens, answer included, whose keys and values fill at most a quarter of what is free."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    if heads is None:
        return _ANSWERS_UNKNOWN
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize * length
    return max(1, min(_MOST_ANSWERS, int(free_memory(device) // 4 // each)))


def token_budget(model: Any, longest: int, device: str) -> int:
    """Tokens per row: enough to amortise a long shared prefix, few enough that attention stays cheap.

    On a CPU 1,024: with the embedded model 512 are equally fast and 256 a quarter slower. Behind a long prompt that is
    shared up to 4,096: with six times the longest sequence, scores after twelve examples took a fifth less time than
    with three, and with twelve times no less. On a GPU up to 16,384, as a quarter of its free memory holds by a rough
    count of one layer's activations and of the logits.
    """
    if device == "cpu":
        return max(1024, longest, min(4096, 6 * longest))
    config = model.config.get_text_config()
    each = 40 * config.hidden_size + 8 * config.vocab_size
    return max(longest, min(16384, int(free_memory(device) // 4 // each)))


def training_budget(model: Any, longest: int, device: str, *, checkpointing: bool) -> int:
    """Tokens per row while training, where a row's activations are held for the backward pass.

    On a CPU 1,024: 512 took a fifth more time with the embedded model, and saved 0.25 GB. On a GPU up to 16,384, as
    half of its free memory holds by a rough count of all activations, in bytes.
    """
    if device == "cpu":
        return max(1024, longest)
    config = model.config.get_text_config()
    layer = config.hidden_size * (4 if checkpointing else 40)
    each = config.num_hidden_layers * layer + 12 * config.vocab_size
    return max(longest, min(16384, int(free_memory(device) // 2 // each)))
