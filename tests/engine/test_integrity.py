"""The checks of an adapter that is on a real model, in the precisions that models compute in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.engine.integrity import check_attached
from harness.engine.models import load_base, load_tokenizer
from harness.errors import DataError
from harness.records import Example, Message

EXAMPLES = tuple(
    Example(f"e{k}", (Message("user", f"{k}: the {word}"),), "animal") for k, word in enumerate(["cat", "owl"])
)
PRECISIONS = [
    {"bnb_4bit_compute_dtype": "float32"},
    {"bnb_4bit_compute_dtype": "bfloat16"},
    {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"},
]


def save_adapter(folder: Path, model: Path, *, a: float = 1.0, b: float = 0.05) -> Path:
    """A LoRA with drawn B of deviation `b`, its A times `a`, and the base's tokenizer beside it."""
    torch.manual_seed(1)
    lora = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=b)
            elif "lora_A" in name:
                parameter.mul_(a)
    lora.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)
    return folder


def failed(folder: Path, model: Path, quantization: dict[str, object]) -> list[str]:
    loaded = load_base(model, quantization, "cpu")
    loaded.attach(folder)
    checks = check_attached(loaded, folder, EXAMPLES)
    loaded.close()
    assert len(checks) == 6
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("quantization", PRECISIONS, ids=["float32", "bfloat16", "nf4"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox"])
def test_an_adapter_that_does_nothing_is_told_from_one_that_does(
    tmp_path: Path, quantization: dict[str, object], architecture: str
) -> None:
    """Whatever the precision: the view of an adapter without effect is its base's to the last bit."""
    from tiny import save_tiny_model

    model = save_tiny_model(tmp_path / "model", architecture=architecture)
    assert failed(save_adapter(tmp_path / "real", model), model, quantization) == []
    assert failed(save_adapter(tmp_path / "mute", model, a=0.0), model, quantization) == ["logits_changed"]
    assert failed(save_adapter(tmp_path / "zero", model, b=0.0), model, quantization) == [
        "weights_not_zero",
        "logits_changed",
    ]


def test_one_infinite_weight_is_found(tiny_model: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, tiny_model)
    weights = load_file(folder / "adapter_model.safetensors")
    weights[min(weights)][0, 0] = torch.inf
    save_file(weights, folder / "adapter_model.safetensors")
    assert failed(folder, tiny_model, PRECISIONS[0]) == ["weights_finite", "logits_finite", "logits_changed"]


def test_finite_weights_can_have_logits_that_are_not(tiny_model: Path, tmp_path: Path) -> None:
    """Products beyond the largest float."""
    folder = save_adapter(tmp_path, tiny_model, a=1e30, b=1e30)
    assert failed(folder, tiny_model, PRECISIONS[0]) == ["logits_finite", "logits_changed"]


def test_a_word_more_is_another_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, tiny_model)
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.add_tokens(["cat"])
    tokenizer.save_pretrained(folder)
    assert failed(folder, tiny_model, PRECISIONS[0]) == ["tokenizer_unchanged"]


def test_padding_and_truncation_make_no_other_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, tiny_model)
    tokenizer = load_tokenizer(tiny_model)
    tokenizer(["a", "a cat"], padding=True, truncation=True, max_length=3)  # leaves both in the file
    tokenizer.save_pretrained(folder)
    assert failed(folder, tiny_model, PRECISIONS[0]) == []


def test_an_example_beyond_the_context_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, tiny_model)
    loaded = load_base(tiny_model, PRECISIONS[0], "cpu")
    loaded.attach(folder)
    long = Example("long", (Message("user", "the cat " * 200),), "animal", source="test.jsonl:7")
    with pytest.raises(DataError, match=r"test\.jsonl:7: \d+ tokens, but the model's context is 256"):
        check_attached(loaded, folder, [long])
    loaded.close()
