"""What the harness computes in its own way on a CPU has the values and gradients of the libraries it replaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PretrainedConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from harness.engine import layers
from harness.engine.attention import BLOCK, block_mask
from harness.engine.packing import TokenSequence, pack

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}


@pytest.fixture(params=["llama", "qwen2"])  # the second has biases
def adapted(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A float32 model with random LoRA weights, computed by PEFT."""
    model = AutoModelForCausalLM.from_pretrained(
        tiny.save_tiny_model(tmp_path, architecture=request.param), dtype=torch.float32
    )
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return tuned


def loss_and_gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    tokens = torch.arange(5, 45)[None]
    logits = model(input_ids=tokens).logits
    loss = logits.log_softmax(-1)[0, range(39), range(6, 45)].sum()
    loss.backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_joined_layers_have_pefts_values_and_gradients(adapted: Any) -> None:
    logits, gradients = loss_and_gradients(adapted)
    with adapted.disable_adapter():
        base = adapted(input_ids=torch.arange(5, 45)[None]).logits.detach()
    layers.join_adapters(adapted, "cpu")
    layers.join_norms(adapted, "cpu")
    joined = [m for m in adapted.modules() if isinstance(m, LoraLinear) and "forward" in vars(m)]
    norms = [m for m in adapted.modules() if isinstance(m, nn.Module) and vars(m).get("forward") and m not in joined]
    assert len(joined) == 14
    assert len(norms) == 5
    ours, our_gradients = loss_and_gradients(adapted)
    assert torch.allclose(ours, logits, atol=1e-4)
    assert gradients.keys() == our_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.linalg.norm(our_gradients[name] - gradient) <= 1e-4 * torch.linalg.norm(gradient), name
    with adapted.disable_adapter():
        assert torch.allclose(adapted(input_ids=torch.arange(5, 45)[None]).logits, base, atol=1e-4)
    assert not torch.allclose(base, logits, atol=0.1)  # or all of this would show nothing


@pytest.mark.parametrize("change", ["dropout", "dora", "merged", "bias"])
def test_what_is_not_plain_lora_stays_with_peft(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny.save_tiny_model(tmp_path), dtype=torch.float32)
    options = {"dropout": {"lora_dropout": 0.5}, "dora": {"use_dora": True}, "bias": {"lora_bias": True}}.get(
        change, {}
    )
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **options))
    layers.join_adapters(tuned, "cpu")
    if change == "merged":
        tuned.merge_adapter()
    monkeypatch.setattr(layers, "_Joined", None)  # using it would be an error
    tuned.train(change == "dropout")
    assert torch.isfinite(tuned(input_ids=torch.arange(5, 45)[None]).logits).all()


def test_a_norm_that_adds_one_to_its_weight_is_left_alone() -> None:
    torch.manual_seed(0)
    plain, other = LlamaRMSNorm(16), GemmaRMSNorm(16)
    other.variance_epsilon = other.eps
    for norm in (plain, other):
        nn.init.normal_(norm.weight, std=0.5)
        norm.weight.requires_grad_(False)
        layers.join_norms(norm, "cpu")
    assert "forward" in vars(plain)
    assert "forward" not in vars(other)


def test_a_norm_that_is_trained_keeps_its_gradient() -> None:
    norm = LlamaRMSNorm(16)
    layers.join_norms(norm, "cpu")
    norm(torch.randn(3, 16)).sum().backward()
    assert norm.weight.grad is not None


def test_unpacked_weights_are_those_of_bitsandbytes(tmp_path: Path) -> None:
    folder = tiny.save_tiny_model(tmp_path, architecture="qwen2")
    config: PretrainedConfig = BitsAndBytesConfig(**NF4)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.bfloat16)
    packed = {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    expected = {name: dequantize_4bit(m.weight.data, m.weight.quant_state) for name, m in packed.items()}
    assert layers.unpack_weights(model, "cpu")
    assert len(expected) == 14
    for name, weight in expected.items():
        layer = model.get_submodule(name)
        assert type(layer) is nn.Linear
        assert torch.equal(layer.weight, weight.to(torch.bfloat16))
        assert (layer.bias is None) == (packed[name].bias is None)
        assert not layer.weight.requires_grad


def test_weights_stay_packed_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        tiny.save_tiny_model(tmp_path), quantization_config=BitsAndBytesConfig(**NF4), dtype=torch.bfloat16
    )
    monkeypatch.setattr(layers, "free_memory", lambda device: 1000)
    assert not layers.unpack_weights(model, "cpu")
    assert any(isinstance(module, Linear4bit) for module in model.modules())


def test_a_block_sees_exactly_what_its_tokens_may() -> None:
    """Against the rule itself: token i sees j exactly if j <= i < ends[j]."""
    draw = torch.Generator().manual_seed(0)
    sequences = []
    for group in range(6):
        prompt = (group % 2, *torch.randint(0, 50, (group * 7 + 3,), generator=draw).tolist())
        for length in (2, 9, 30):
            own = tuple(torch.randint(0, 50, (length,), generator=draw).tolist())
            sequences.append(TokenSequence(prompt, own))
    ((row,),) = pack(sequences, budget=10_000)
    ends = [*row.ends, *range(len(row) + 1, len(row) + 1 + -len(row) % BLOCK)]
    assert len(ends) >= 3 * BLOCK
    keys, mask = block_mask(ends, "cpu")
    assert keys.shape[1] < len(ends) - BLOCK  # fewer than all
    for block in range(len(ends) // BLOCK):
        for line in range(BLOCK):
            token = block * BLOCK + line
            seen = keys[block][mask[block, 0, line]].tolist()
            assert sorted(seen) == [j for j in range(token + 1) if token < ends[j]]


def test_lora_weights_that_change_are_seen_without_gradients(adapted: Any) -> None:
    """They are converted once where they stay what they are; a fused optimizer step leaves no trace in `_version`."""
    layers.join_adapters(adapted, "cpu")
    adapted.to(torch.bfloat16)
    weights = {name: p for name, p in adapted.named_parameters() if "lora_" in name}
    for parameter in weights.values():
        parameter.data = parameter.data.float()

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = adapted(input_ids=torch.arange(5, 45)[None]).logits
        return found

    for parameter in weights.values():
        parameter.requires_grad_(True)
    seen = [logits()]
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1, fused=True)
    for parameter in weights.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    seen.append(logits())
    for parameter in weights.values():
        parameter.requires_grad_(False)
    seen.append(logits())
    assert torch.equal(seen[1], seen[2])
    with torch.no_grad():
        for parameter in weights.values():
            parameter.mul_(0.5)
    seen.append(logits())
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[2], seen[3])
