"""The head that is read for a few tokens has the values and gradients of logits over the whole vocabulary."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig, LlamaConfig

from harness.engine import head
from harness.engine.head import log_probs, prepare_head

TOKENS = {"input_ids": torch.arange(3, 63)[None]}
# Lines with several targets, the same target twice, and lines out of order.
LINES = torch.tensor([7, 3, 3, 3, 58, 12, 59, 0, 30, 31, 32])
TARGETS = torch.tensor([8, 5, 6, 5, 200, 1, 0, 322, 31, 7, 7])


@pytest.fixture(params=["llama", "qwen2", "gpt_neox"])
def plain(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A float32 model with a frozen head that is left to transformers; `prepared` is to read it in unequal pieces."""
    monkeypatch.setattr(head, "_LINES", 4)
    monkeypatch.setattr(head, "_IN_CACHE", 3)
    folder = tiny.save_tiny_model(tmp_path, architecture=request.param)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.get_output_embeddings().requires_grad_(False)
    model._harness_own_head = False
    return model


def prepared(model: Any) -> Any:
    model = copy.deepcopy(model)
    del model._harness_own_head
    assert prepare_head(model)
    return model


def gradients(model: Any, found: torch.Tensor) -> list[torch.Tensor]:
    """Of a loss in which every target has a weight of its own."""
    (found * torch.linspace(-1, 2, len(found))).sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_scores_are_those_of_all_logits(plain: Any) -> None:
    with torch.inference_mode():
        expected, likeliest = log_probs(plain, TOKENS, LINES, TARGETS)
        top = plain(**TOKENS).logits[0].argmax(1)[LINES]
        model = prepared(plain)
        for targets in (TARGETS, top):
            found, first = log_probs(model, TOKENS, LINES, targets)
            assert first is not None
            assert first.tolist() == (targets == top).tolist()
            if targets is TARGETS:
                torch.testing.assert_close(found, expected)
                assert likeliest is not None
                assert first.tolist() == likeliest.tolist()
    assert found.dtype == torch.float32


def test_gradients_are_those_of_all_logits(plain: Any) -> None:
    model = prepared(plain)
    expected, none = log_probs(plain, TOKENS, LINES, TARGETS)
    found, nothing = log_probs(model, TOKENS, LINES, TARGETS)
    assert none is None
    assert nothing is None
    torch.testing.assert_close(found, expected)
    ours, theirs = gradients(model, found), gradients(plain, expected)
    assert len(ours) == len(theirs) > 10
    for one, other in zip(ours, theirs, strict=True):
        assert torch.linalg.norm(one - other) <= 1e-5 * torch.linalg.norm(other)


def test_no_logits_are_made_besides(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    multiply = head.linear

    def linear(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(x))
        return multiply(x, *rest)

    model = prepared(plain)
    monkeypatch.setattr(head, "linear", linear)
    log_probs(model, TOKENS, LINES, TARGETS)
    assert sizes == [4, 4, 3]


def test_a_likely_token_keeps_its_gradient_in_bfloat16() -> None:
    """What a token lacks to certainty is far smaller than a step of bfloat16 near one."""
    torch.manual_seed(0)
    weight = torch.randn(50, 16, dtype=torch.bfloat16)
    hidden = (weight[7] * 0.8)[None].clone().requires_grad_()
    lines, targets = torch.tensor([0]), torch.tensor([7])
    head._Differentiable.apply(hidden, weight, None, lines, targets).sum().backward()  # type: ignore[no-untyped-call]
    exact = hidden.detach().double().requires_grad_()
    found = (exact @ weight.double().t()).log_softmax(1)[0, 7]
    assert 0.98 < float(found.detach().exp()) < 0.9999
    found.backward()
    assert hidden.grad is not None
    assert exact.grad is not None
    assert torch.linalg.norm(hidden.grad - exact.grad) <= 0.03 * torch.linalg.norm(exact.grad)


def test_of_equal_logits_the_first_is_the_likeliest() -> None:
    weight = torch.zeros(9, 4)
    weight[[3, 6], 0] = 1.0
    targets = torch.tensor([6, 3])
    scores = head._scores(torch.ones(1, 4), weight, None, torch.tensor([0, 0]), targets)
    assert scores[1].tolist() == [0.0, 1.0]
    assert scores[0, 0] == scores[0, 1]


def test_logits_are_still_given_to_whoever_asks(plain: Any) -> None:
    model = prepared(plain)
    log_probs(model, TOKENS, LINES, TARGETS)
    torch.testing.assert_close(model(**TOKENS).logits, plain(**TOKENS).logits, rtol=0, atol=0)


def test_the_last_tokens_of_many_prompts_are_read_at_once(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch copies the head's matrix for each prompt if their hidden states do not lie side by side."""
    given: list[torch.Tensor] = []
    multiply = head.linear

    def linear(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        given.append(x)
        return multiply(x, *rest)

    model = prepared(plain)
    monkeypatch.setattr(head, "linear", linear)
    model(input_ids=torch.arange(24).view(3, 8), logits_to_keep=1)
    assert [(x.shape[:2], x.is_contiguous()) for x in given] == [((3, 1), True)]


def test_a_failed_pass_leaves_nothing_behind(plain: Any) -> None:
    model = prepared(plain)
    with pytest.raises(IndexError):
        log_probs(model, {"input_ids": torch.tensor([[10**6]])}, LINES, TARGETS)
    assert model(**TOKENS).logits.shape[-1] == model.config.vocab_size


@pytest.mark.parametrize("architecture", ["gemma2", "granite", "llama"])
def test_logits_that_are_changed_after_the_head_are_left_alone(architecture: str) -> None:
    sizes: dict[str, Any] = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0}
    config = {
        "gemma2": lambda: Gemma2Config(**sizes, head_dim=16, final_logit_softcapping=30.0),
        "granite": lambda: GraniteConfig(**sizes, logits_scaling=8.0),
        "llama": lambda: LlamaConfig(**sizes),
    }[architecture]()
    model = AutoModelForCausalLM.from_config(config)
    assert prepare_head(model) is (architecture == "llama")
    assert prepare_head(model) is (architecture == "llama")  # known from before


@pytest.mark.parametrize("how", ["trained", "adapted", "saved with the adapter"])
def test_a_head_that_is_trained_gets_its_gradient(plain: Any, how: str) -> None:
    model = prepared(plain)
    name = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    if how == "trained":
        model.get_output_embeddings().requires_grad_(True)
    elif how == "adapted":
        model = get_peft_model(model, LoraConfig(r=2, target_modules=[name], task_type="CAUSAL_LM"))
    else:
        lora = LoraConfig(r=2, target_modules="all-linear", modules_to_save=[name], task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    found, _ = log_probs(model, TOKENS, LINES, TARGETS)
    with torch.no_grad():
        expected, _ = log_probs(plain, TOKENS, LINES, TARGETS)
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()
    trained = [p for n, p in model.named_parameters() if name in n and p.requires_grad and isinstance(p, nn.Parameter)]
    assert trained
    assert any(p.grad is not None and bool(p.grad.any()) for p in trained)
