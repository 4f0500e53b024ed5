"""Layers on a CPU: 4-bit weights unpacked once, LoRA in one step with its base layer, norms in few steps.

The values are those of bitsandbytes, PEFT and transformers, which unpack a weight for every product and compute LoRA
and norms in a dozen small steps each. On a GPU, where their kernels are good, nothing is changed.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from torch.nn.functional import linear

from harness.engine.attention import compute_type
from harness.engine.memory import free_memory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["join_adapters", "join_norms", "unpack_weights"]


def unpack_weights(model: Any, device: str) -> bool:
    """Replace 4-bit layers by plain ones with the same values in the type they compute in; whether it was done.

    Only on a CPU, and only if the unpacked weights fill at most a quarter of what is free.
    """
    layers = [(parent, name, layer) for parent in model.modules() for name, layer in parent.named_children()]
    packed = [(parent, name, layer) for parent, name, layer in layers if isinstance(layer, Linear4bit)]
    size = sum(layer.in_features * layer.out_features * model.dtype.itemsize for _, _, layer in packed)
    if device != "cpu" or not packed or size > free_memory(device) // 4:
        return False
    for parent, name, layer in packed:
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(model.dtype)
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        plain.bias = layer.bias
        setattr(parent, name, plain)
    return True


def join_adapters(model: Any, device: str) -> None:
    """Compute each plain LoRA layer together with its base layer, on a CPU.

    What is not plain (DoRA, a bias, several adapters at once, dropout while training) stays with PEFT.
    """
    if device != "cpu":
        return
    for layer in model.modules():
        if type(layer) is LoraLinear and type(layer.base_layer) is nn.Linear:
            layer.forward = MethodType(_forward, layer)


def join_norms(model: Any, device: str) -> None:
    """Compute root-mean-square norms, and their gradients, in few steps on a CPU.

    Recognised by what the layer does to a few numbers: architectures differ in whether they add one to the weight.
    """
    if device != "cpu":
        return
    for layer in model.modules():
        if hasattr(layer, "variance_epsilon") and type(layer).__name__.endswith("RMSNorm") and _is_plain_norm(layer):
            layer.forward = MethodType(_norm, layer)


def _is_plain_norm(layer: Any) -> bool:
    weight = layer.weight
    given = torch.linspace(-2, 3, weight.numel(), dtype=weight.dtype)[None]
    with torch.no_grad():
        return bool(torch.allclose(_norm(layer, given).float(), layer(given).float(), rtol=0.02, atol=0.02))


def _norm(layer: Any, x: Tensor) -> Tensor:
    if layer.weight.requires_grad:  # trained in full: its gradient is not made here
        output: Tensor = type(layer).forward(layer, x)
        return output
    output = _Norm.apply(x, layer.weight, layer.variance_epsilon)  # type: ignore[no-untyped-call]
    return output


def _forward(layer: Any, x: Tensor, *positional: Any, **options: Any) -> Tensor:
    output: Tensor
    if not _plain(layer) or positional or options:
        output = LoraLinear.forward(layer, x, *positional, **options)
        return output
    base = layer.base_layer
    if layer.disable_adapters:
        output = linear(x.to(base.weight.dtype), base.weight, base.bias)
        return output
    (name,) = layer.active_adapters
    a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    if torch.is_grad_enabled():
        output = _Joined.apply(x, base.weight, base.bias, a, b, scale)  # type: ignore[no-untyped-call]
        return output
    kind = compute_type(x.device.type, base.weight.dtype)
    with torch.autocast(x.device.type, enabled=False):
        down, up = _converted(layer, a, b, kind)
        flat = x.reshape(-1, x.shape[-1]).to(kind)
        output, _ = _product(flat, base.weight, base.bias, down, up, scale)
    return output.view(*x.shape[:-1], -1)


def _converted(layer: Any, a: Tensor, b: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """A and B in the type of the product. Those of an adapter that is not trained are kept: a token of an answer is
    little work, and converting them for each took a tenth of it. An optimizer's fused step leaves `_version` as it was,
    so those that are trained are converted each time."""
    if a.requires_grad or b.requires_grad:
        return a.to(kind), b.to(kind)
    state = (a.data_ptr(), a._version, b.data_ptr(), b._version, kind)
    if getattr(layer, "converted_state", None) != state:
        layer.converted = (a.detach().to(kind), b.detach().to(kind))
        layer.converted_state = state
    converted: tuple[Tensor, Tensor] = layer.converted
    return converted


def _product(
    flat: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """What `_Joined` computes, and scale x A'; all of one type, but for weight and bias."""
    inner = (flat @ down.t()).mul_(scale)
    output = linear(flat, weight.to(flat.dtype), None if bias is None else bias.to(flat.dtype))
    return output.addmm_(inner, up.t()), inner


def _plain(layer: Any) -> bool:
    if layer.merged:
        return False
    if layer.disable_adapters:
        return True
    names = layer.active_adapters
    if len(names) != 1 or names[0] not in layer.lora_A:
        return False
    (name,) = names
    dropout = layer.lora_dropout[name]
    return (
        name not in layer.lora_variant
        and layer.lora_B[name].bias is None
        and not (layer.training and isinstance(dropout, nn.Dropout) and dropout.p > 0)
    )


class _Joined(torch.autograd.Function):
    """x W' + bias + scale (x A') B', with gradients for x, A and B. W is frozen.

    x: (..., I); weight: (O, I); bias: (O,) or None; a: (R, I); b: (O, R). Computed in the type of `weight`, or in
    autocast's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        kind = compute_type(x.device.type, weight.dtype)
        with torch.autocast(x.device.type, enabled=False):  # it leaves products in place alone, so types would differ
            flat, down, up = x.reshape(-1, x.shape[-1]).to(kind), a.to(kind), b.to(kind)
            output, inner = _product(flat, weight, bias, down, up, scale)
        ctx.save_for_backward(flat, inner, weight, down, up)
        ctx.scale, ctx.shape, ctx.types = scale, x.shape, (x.dtype, a.dtype, b.dtype)
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        flat, inner, weight, down, up = ctx.saved_tensors
        x_type, a_type, b_type = ctx.types
        flowing = gradient.reshape(-1, gradient.shape[-1]).to(flat.dtype)
        inner_gradient = (flowing @ up).mul_(ctx.scale)
        a_gradient = (inner_gradient.t() @ flat).to(a_type)
        b_gradient = (inner.t() @ flowing).t().to(b_type)  # quicker than flowing.t() @ inner
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (flowing @ weight.to(flat.dtype)).addmm_(inner_gradient, down).view(ctx.shape).to(x_type)
        return x_gradient, None, None, a_gradient, b_gradient, None


class _Norm(torch.autograd.Function):
    """weight x / sqrt(mean(x^2) + epsilon), the mean in float32, with a gradient for x. The weight is frozen.

    x: (..., I); weight: (I,).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        exact = x.float()
        squares = torch.linalg.vector_norm(exact, dim=-1, keepdim=True).square_()
        inverse = squares.div_(exact.shape[-1]).add_(epsilon).rsqrt_()
        normed = exact * inverse
        ctx.save_for_backward(normed, inverse, weight)
        ctx.type = x.dtype
        output: Tensor = weight * normed.to(x.dtype)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        normed, inverse, weight = ctx.saved_tensors
        flowing = gradient.float() * weight.float()
        along = torch.linalg.vecdot(flowing, normed, dim=-1).unsqueeze(-1) / normed.shape[-1]
        return torch.addcmul(flowing, normed, along, value=-1).mul_(inverse).to(ctx.type), None, None
