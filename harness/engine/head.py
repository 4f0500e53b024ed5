"""The language-model head, read for the tokens that are asked for instead of for the whole vocabulary at once.

A vocabulary has tens of thousands of entries: the logits of one row, in float32 and once more for the gradient, are
the largest tensors of a step. Here a few lines at a time become log-probabilities, and the gradient of their hidden
states, while they are in the processor's cache; nothing of a vocabulary's width stays.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

__all__ = ["log_probs", "prepare_head"]

_LINES = 256
"""Hidden states that the head's matrix is read for at once, on a CPU."""
_IN_CACHE = 32
"""Lines of logits whose exponentials are taken at once, on a CPU: 6 MB in float32 for a vocabulary of 49,152."""
_GPU_ELEMENTS = 2**27


def prepare_head(model: Any) -> bool:
    """Whether the head of `model` is read by this module; decided on the first call, by a trial.

    It is where its logits are the head's output as it is. Models that scale or cap their logits afterwards (Gemma 2,
    Granite) are left alone. Not to be called before a 4-bit model that is to be trained on a CPU was made ready for
    that: bitsandbytes repacks its weights in the first forward without gradients.
    """
    known = getattr(model, "_harness_own_head", None)
    if known is None:
        known = _prepared(model)
        model._harness_own_head = known
    return bool(known)


def _prepared(model: Any) -> bool:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if type(head) is not nn.Linear:
        return False
    given: list[Tensor] = []
    hook = head.register_forward_hook(lambda _module, _arguments, output: given.append(output.clone()))
    try:
        tokens = torch.arange(1, 9, device=head.weight.device)[None]
        with torch.inference_mode():
            logits = model(input_ids=tokens, use_cache=False).logits
    finally:
        hook.remove()
    if len(given) != 1 or logits.shape != given[0].shape or not torch.equal(logits, given[0]):
        return False
    vars(head).update(forward=MethodType(_forward, head), wanted=None)
    return True


def log_probs(model: Any, arguments: Mapping[str, Any], lines: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """(E,) float32 log-probabilities of `targets`, and (E,) bool: the target is the likeliest token.

    arguments: of the model's forward. lines: (E,) which of the (B * P) hidden states that reach the head predicts each
    target, and targets: (E,) token ids. The second result is None where gradients are recorded. Keys and values are
    kept only where `arguments` has a cache for them.
    """
    head = _head_in_use(model)
    keep = "past_key_values" in arguments
    if head is None:
        output = model(**arguments, use_cache=keep).logits
    else:
        head.wanted = (lines, targets)
        try:
            output = model(**arguments, use_cache=keep).logits
        finally:
            head.wanted = None
        found = output.flatten(1)
        return found[0].float(), None if torch.is_grad_enabled() else found[1] > 0
    flat = output.flatten(0, 1)
    every = torch.log_softmax(flat.float(), dim=-1)
    likeliest = None if torch.is_grad_enabled() else flat.argmax(dim=-1)[lines] == targets
    return every[lines, targets], likeliest


def _head_in_use(model: Any) -> Any:
    """The head, if it was prepared, no adapter has put its own in its place, and it is not trained itself."""
    head = model.get_output_embeddings() if prepare_head(model) else None
    return head if type(head) is nn.Linear and not head.weight.requires_grad else None


def _forward(head: Any, hidden: Tensor) -> Tensor:
    """The head's logits, or where `wanted` is set: (2, E) float32, log-probabilities and whether each is the likeliest,
    (1, E) where gradients are recorded."""
    if head.wanted is None:
        # Of the last token of many prompts, which do not lie side by side, torch would copy the matrix for each.
        return linear(hidden.contiguous(), head.weight, head.bias)
    (lines, targets), head.wanted = head.wanted, None
    flat = hidden.flatten(0, -2)
    output: Tensor
    if torch.is_grad_enabled():
        output = _Differentiable.apply(flat, head.weight, head.bias, lines, targets)  # type: ignore[no-untyped-call]
        return output[None]
    return _scores(flat, head.weight, head.bias, lines, targets)


def _pieces(length: int, weight: Tensor, most: int) -> Iterator[slice]:
    size = most if weight.device.type == "cpu" else max(1, _GPU_ELEMENTS // weight.shape[0])
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _exponentials(logits: Tensor, most: Tensor) -> Tensor:
    return logits.to(torch.float32, copy=True).sub_(most).exp_()


def _scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, lines: Tensor, targets: Tensor) -> Tensor:
    """hidden: (N, I). Returns (2, E) float32."""
    found = torch.empty(2, len(lines), device=hidden.device)
    for piece in _pieces(len(hidden), weight, _LINES):
        logits = linear(hidden[piece], weight, bias)
        most, first = logits.max(dim=1, keepdim=True)  # of several likeliest tokens the first one, as for argmax
        total = torch.cat(
            [_exponentials(logits[part], most[part]).sum(dim=1) for part in _pieces(len(logits), weight, _IN_CACHE)]
        )
        edges = ((lines >= piece.start) & (lines < piece.stop)).nonzero()[:, 0]
        line, target = lines[edges] - piece.start, targets[edges]
        found[0, edges] = logits[line, target].float() - most[line, 0].float() - total[line].log()
        found[1, edges] = (first[line, 0] == target).float()
    return found


class _Differentiable(torch.autograd.Function):
    """(E,) float32 log-probabilities, with a gradient for the hidden states. The head is frozen.

    hidden: (N, I); weight: (V, I); bias: (V,) or None; lines, targets: (E,).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, lines: Tensor, targets: Tensor
    ) -> Tensor:
        found = torch.empty(len(lines), device=hidden.device)
        slopes = torch.empty(len(lines), hidden.shape[1], dtype=weight.dtype, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            read = hidden.to(weight.dtype).index_select(0, lines)
            for piece in _pieces(len(lines), weight, _LINES):
                logits, target = linear(read[piece], weight, bias), targets[piece, None]
                for part in _pieces(len(logits), weight, _IN_CACHE):
                    chosen = logits[part].gather(1, target[part]).float()
                    most = logits[part].amax(dim=1, keepdim=True).float()
                    exact = _exponentials(logits[part], most)
                    total = exact.sum(dim=1, keepdim=True)
                    found[piece][part] = (chosen - most - total.log())[:, 0]
                    # One minus the probability before anything is rounded: near 1 nothing else would be left of it.
                    exact.div_(-total)
                    exact.scatter_add_(1, target[part], torch.ones_like(chosen))
                    logits[part] = exact
                torch.mm(logits, weight, out=slopes[piece])
        ctx.save_for_backward(slopes, lines)
        ctx.shape, ctx.type = hidden.shape, hidden.dtype
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        slopes, lines = ctx.saved_tensors
        scaled = slopes * gradients[0][:, None]
        gradient = torch.zeros(ctx.shape, dtype=scaled.dtype, device=scaled.device).index_add_(0, lines, scaled)
        return gradient.to(ctx.type), None, None, None, None
