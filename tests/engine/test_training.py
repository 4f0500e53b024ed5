"""Real QLoRA training of the tiny model: what it learns, what it leaves, and what stops it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from trl import SFTConfig, SFTTrainer

from harness.engine.models import LoadedModel, load_base
from harness.engine.training import TrainingResult, train_adapter
from harness.errors import BaseModelError, DataError, TrainingError, TrainingInterrupted
from harness.progress import Silent
from harness.records import Example, Message

NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
FLOAT32 = {"bnb_4bit_compute_dtype": "float32"}
LORA = {"r": 16, "lora_alpha": 64, "lora_dropout": 0.0, "target_modules": "all-linear"}
TRAINING = {"num_train_epochs": 2, "learning_rate": 5e-3, "per_device_train_batch_size": 8}


def examples(split: str, n: int) -> list[Example]:
    return [
        Example(str(row["id"]), (Message("user", str(row["text"])),), str(row["label"]), str(row["label"]))
        for row in tiny.rows(split, n, seed=0)
    ]


def train(
    model: LoadedModel, folder: Path, *, training: Mapping[str, Any] = TRAINING, **changes: Any
) -> TrainingResult:
    arguments: dict[str, Any] = {
        "train": examples("train", 32),
        "validation": examples("validation", 8),
        "lora": LORA,
        "training": training,
        "seed": 0,
        "folder": folder,
        "progress": Silent(),
    }
    return train_adapter(model, **{**arguments, **changes})


def test_nf4_training_learns_also_after_a_validation(tiny_model: Path, tmp_path: Path) -> None:
    """bitsandbytes repacks CPU weights in the first validation, and then nothing would be learned any more."""
    result = train(load_base(tiny_model, NF4, "cpu"), tmp_path, training={**TRAINING, "num_train_epochs": 8})
    first, *later = [loss for _, loss in result.validation_loss]
    assert later[-1] < first / 2
    assert result.steps == result.max_steps == 32


def test_gradients_through_nf4_are_those_of_the_dequantized_weights(tiny_model: Path, tmp_path: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    loaded = load_base(tiny_model, NF4, "cpu")
    train(loaded, tmp_path)  # ends with a validation, after which the weights must still be differentiable
    layer = loaded.model.model.layers[0].mlp.up_proj.base_layer.train()
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    inputs = torch.randn(4, weight.shape[1], dtype=torch.bfloat16, requires_grad=True)
    upstream = torch.randn(4, weight.shape[0])
    (layer(inputs).float() * upstream).sum().backward()
    expected = upstream @ weight
    assert inputs.grad is not None
    # bfloat16 has a relative precision of 2^-8, and 128 of its products are summed.
    assert torch.linalg.norm(inputs.grad.float() - expected) <= 0.02 * torch.linalg.norm(expected)


def test_adapter_folder_is_complete(tiny_model: Path, tmp_path: Path) -> None:
    result = train(load_base(tiny_model, NF4, "cpu"), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "training_log.jsonl",
    } <= names
    assert not any(name.endswith((".bin", ".pt")) for name in names)
    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log if "loss" in line]
    assert steps == list(range(1, result.max_steps + 1))
    assert len([line for line in log if "eval_loss" in line]) == 2


@pytest.mark.parametrize("budget", [1000, 40])
def test_same_weights_as_the_stock_trainer(
    tiny_model: Path, tmp_path: Path, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row a micro-batch and several, against TRL's own SFTTrainer on padded batches: same data, order, seed and
    arguments, float32, no dropout."""
    monkeypatch.setattr("harness.engine.training.training_budget", lambda longest, device: budget)
    ours = tmp_path / "ours"
    training = {
        **TRAINING,
        "num_train_epochs": 4,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "cosine",
        "learning_rate": 1e-3,
    }
    result = train(load_base(tiny_model, FLOAT32, "cpu"), ours, training=training)

    loaded = load_base(tiny_model, FLOAT32, "cpu")
    rows = [
        {
            "prompt": [{"role": "user", "content": e.messages[0].content}],
            "completion": [{"role": "assistant", "content": e.expected}],
        }
        for e in examples("train", 32)
    ]
    prepared = datasets.Dataset.from_list([stock_tokens(loaded.tokenizer, row) for row in rows])
    arguments = SFTConfig(
        output_dir=str(tmp_path / "stock"),
        seed=0,
        data_seed=0,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        max_length=None,
        completion_only_loss=True,
        **training,
    )
    stock = SFTTrainer(
        model=loaded.model,
        args=arguments,
        train_dataset=prepared,
        processing_class=loaded.tokenizer,
        peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
    )
    stock.train()
    stock.model.save_pretrained(tmp_path / "stock")

    losses = [line["loss"] for line in stock.state.log_history if "loss" in line]
    assert [loss for _, loss in result.loss] == pytest.approx(losses, rel=1e-3)
    theirs = load_file(tmp_path / "stock" / "adapter_model.safetensors")
    for name, weight in load_file(ours / "adapter_model.safetensors").items():
        assert torch.allclose(weight, theirs[name], atol=1e-3), name


def stock_tokens(tokenizer: Any, row: dict[str, Any]) -> dict[str, list[int]]:
    """Prompt and completion as TRL takes them when they are already tokens: loss on the completion only."""
    prompt = tokenizer(
        tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False),
        add_special_tokens=False,
    )["input_ids"]
    completion = tokenizer(row["completion"][0]["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
    return {
        "input_ids": prompt + completion,
        "completion_mask": [0] * len(prompt) + [1] * len(completion),
    }


def test_a_loss_that_is_not_finite_stops_training(tiny_model: Path, tmp_path: Path) -> None:
    training = {**TRAINING, "learning_rate": 1e30, "max_grad_norm": 0.0, "num_train_epochs": 20}
    with pytest.raises(TrainingError, match=r"loss is (nan|inf|-inf) at step \d+ of 80; .*learning_rate"):
        train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path, training=training)
    assert not (tmp_path / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_ends_training_without_an_adapter(
    tiny_model: Path, tmp_path: Path, number: signal.Signals, name: str
) -> None:
    class Interrupting(Silent):
        def advance(self, done: int, note: str = "") -> None:
            if done == 2:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match=rf"stopped by {name} at step [23] of 8; nothing of it is used"):
        train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path, progress=Interrupting())
    assert not (tmp_path / "adapter_model.safetensors").exists()
    assert signal.getsignal(number) is before


def test_too_long_an_example_is_refused_not_truncated(tiny_model: Path, tmp_path: Path) -> None:
    long = Example("x", (Message("user", "word " * 300),), "animal", "animal", source="train.jsonl:7")
    with pytest.raises(DataError, match=r"train.jsonl:7: \d+ tokens, but the model's context is 256"):
        train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path, train=[*examples("train", 8), long])


def test_max_length_is_a_bound_and_not_a_truncation(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokens, but training.max_length is 8"):
        train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path, training={**TRAINING, "max_length": 8})


def test_a_paged_optimizer_needs_a_gpu(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"paged_adamw_8bit needs a GPU\. Use adamw_torch"):
        train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path, training={**TRAINING, "optim": "paged_adamw_8bit"})
