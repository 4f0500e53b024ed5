"""Real QLoRA training of the tiny model: what it learns, what it leaves, and what stops it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from harness.engine.chat import training_sequences
from harness.engine.models import PLAIN_BATCHES, LoadedModel, load_base, load_tokenizer
from harness.engine.packing import Row, pack
from harness.engine.scoring import batch_log_probs
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
    folder.mkdir(exist_ok=True)
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


@pytest.mark.parametrize("free", [10**12, 0])
def test_nf4_training_learns_also_after_a_validation(
    tiny_model: Path, tmp_path: Path, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes repacks CPU weights in the first validation, and then nothing would be learned any more.

    It does so only where memory does not suffice for the harness to unpack them.
    """
    monkeypatch.setattr("harness.engine.layers.free_memory", lambda device: free)
    result = train(load_base(tiny_model, NF4, "cpu"), tmp_path, training={**TRAINING, "num_train_epochs": 8})
    first, *later = [loss for _, loss in result.validation_loss]
    assert later[-1] < first / 2
    assert result.steps == result.max_steps == 32


@pytest.mark.parametrize("free", [10**12, 0])
def test_gradients_through_nf4_are_those_of_the_dequantized_weights(
    tiny_model: Path, tmp_path: Path, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights unpacked once, and where memory does not suffice for that, with bitsandbytes' own layers."""
    monkeypatch.setattr("harness.engine.layers.free_memory", lambda device: free)
    loaded = load_base(tiny_model, NF4, "cpu")
    packed = AutoModelForCausalLM.from_pretrained(
        tiny_model, quantization_config=BitsAndBytesConfig(**NF4), dtype=torch.bfloat16
    )
    reference = packed.model.layers[0].mlp.up_proj
    weight = dequantize_4bit(reference.weight.data, reference.weight.quant_state).float()
    train(loaded, tmp_path)  # ends with a validation, after which the weights must still be differentiable
    layer = loaded.model.model.layers[0].mlp.up_proj.base_layer.train()
    assert isinstance(layer, Linear4bit) == (free == 0)
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
    # Nothing that runs code when it is read.
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jsonl", ".jinja", ".md"}
    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log if "loss" in line]
    assert steps == list(range(1, result.max_steps + 1))
    assert len([line for line in log if "eval_loss" in line]) == 2


@pytest.mark.parametrize(("budget", "packed"), [(1000, True), (40, True), (1000, False), (80, False)])
def test_same_weights_as_the_stock_trainer(
    tiny_model: Path, tmp_path: Path, budget: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row or batch a micro-batch and several, with shared prefixes and plainly, against TRL's own SFTTrainer on
    padded batches: same data, order, seed and arguments, float32, no dropout."""
    monkeypatch.setattr("harness.engine.training.takes_rows", lambda model: packed)
    monkeypatch.setattr("harness.engine.training.training_budget", lambda *_arguments, **_options: budget)
    ours = tmp_path / "ours"
    training = {
        **TRAINING,
        "num_train_epochs": 15,  # 30 steps
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "cosine",
        "learning_rate": 1e-3,
    }
    result = train(load_base(tiny_model, FLOAT32, "cpu"), ours, training=training)

    assert result.packed == packed
    assert result.row_tokens == budget
    assert (result.tokens < result.example_tokens) == packed

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


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, line: str) -> None:
        self.lines.append(line)


def test_a_model_that_takes_no_rows_is_trained_plainly_and_it_is_said_once(tiny_model: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    windowed = tmp_path / "windowed"
    shutil.copytree(tiny_model, windowed)
    (windowed / "config.json").write_text(json.dumps({**config, "sliding_window": 16}))
    progress = Listening()
    result = train(load_base(windowed, FLOAT32, "cpu"), tmp_path, progress=progress)
    assert not result.packed
    assert result.steps == result.max_steps
    assert progress.lines.count(PLAIN_BATCHES) == 1


def test_memory_that_runs_out_halves_the_rows_and_changes_nothing_else(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs out in the second micro-batch of a step, when one of its rows is already differentiated."""
    training = {**TRAINING, "gradient_accumulation_steps": 2, "learning_rate": 1e-3}
    monkeypatch.setattr("harness.engine.training.training_budget", lambda *_arguments, **_options: 80)
    calm = train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path / "calm", training=training)

    calls: list[int] = []

    def short_of_memory(model: Any, rows: Sequence[Row], device: Any) -> Any:
        if torch.is_grad_enabled():
            calls.append(len(rows))
            if len(calls) == rows_of_a_micro_batch + 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return batch_log_probs(model, rows, device)

    sequences = training_sequences(load_tokenizer(tiny_model), examples("train", 32))
    longest = max(len(s.inputs) for s in sequences)
    rows_of_a_micro_batch = len(list(pack(sequences[:8], budget=80)))
    assert rows_of_a_micro_batch > 1
    monkeypatch.setattr("harness.engine.training.batch_log_probs", short_of_memory)
    progress = Listening()
    short = train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path / "short", training=training, progress=progress)
    assert short.row_tokens == max(40, longest) < calm.row_tokens == 80
    assert f"memory ran out: going on with rows of at most {short.row_tokens} tokens" in progress.lines
    assert [loss for _, loss in short.loss] == pytest.approx([loss for _, loss in calm.loss], rel=1e-4)
    expected = load_file(tmp_path / "calm" / "adapter_model.safetensors")
    for name, weight in load_file(tmp_path / "short" / "adapter_model.safetensors").items():
        assert torch.allclose(weight, expected[name], atol=1e-4), name


@pytest.mark.parametrize(
    ("runs_out_in", "said"),
    [
        ("batch_log_probs", r"ran out of memory with rows of \d+ tokens, as many as the longest"),
        ("join_adapters", "Memory ran out before the first training step"),
    ],
)
def test_too_little_memory_is_an_error_that_says_when(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs_out_in: str, said: str
) -> None:
    def no_memory(*_arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(f"harness.engine.training.{runs_out_in}", no_memory)
    with pytest.raises(TrainingError, match=said):
        train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path)


@pytest.mark.parametrize("target_modules", ["all-linear", ["q_proj"]])
def test_mixed_precision_over_float32_weights(
    tiny_model: Path, tmp_path: Path, target_modules: str | list[str]
) -> None:
    """`bf16: true` with `bnb_4bit_compute_dtype: float32`: autocast chooses the type, with and without LoRA."""
    losses = []
    for folder, bf16 in (("exact", False), ("mixed", True)):
        training = {**TRAINING, "learning_rate": 1e-3, "bf16": bf16}
        lora = {**LORA, "target_modules": target_modules}
        result = train(load_base(tiny_model, FLOAT32, "cpu"), tmp_path / folder, training=training, lora=lora)
        losses.append([loss for _, loss in result.validation_loss])
    exact, mixed = losses
    assert mixed != exact
    assert mixed == pytest.approx(exact, rel=0.03)


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
