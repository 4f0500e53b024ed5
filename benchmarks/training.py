"""How fast training is beside TRL's SFTTrainer, with the same arguments, data, order and seed.

    python benchmarks/training.py                       # both data sets, 16 steps each
    python benchmarks/training.py --data postgres_assistant --steps 57
    python benchmarks/training.py --shape 8b            # on a GPU: a model of that shape, with random weights

SFTTrainer runs three times: with the recipe's arguments alone; with activation checkpointing as the harness sets it,
which is off on a CPU; and so again with packing and the fastest attention that is installed. Each side trains in a
process of its own, in turn, from the same NF4 weights, and is then measured by one function on the same validation set.
Prints Markdown: seconds a step, validation loss, peak memory (of the GPU, where there is one), and their ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _common import (
    ROOT,
    BenchmarkError,
    add_base_options,
    add_date,
    add_device,
    chosen_base,
    measured,
    print_comparison,
    ratio_row,
    stock_model,
)

DATA = {"shared_prompt": 6.0, "postgres_assistant": 3.0}
"""Data set -> how many times faster than SFTTrainer is the target."""

_SYSTEM = (
    "File this bank line of a small company under one category for the bookkeeper: payroll, customer_payout, bank_fee, "
    "software, cloud_hosting, advertising, travel, meals, office_supplies, rent_utilities, taxes, shipping. "
    "Look at the direction, the amount band and the memo. Answer with just the category."
)
"""Makes a shared prompt of about 80 tokens."""

SIDES = ("peer", "quick", "packing", "project")
"""SFTTrainer, SFTTrainer with the harness' activation checkpointing, the same with packing, and the harness."""

_PACKED_TOKENS = 1024
"""A packed row of SFTTrainer: as many tokens as about one batch of the recipes has."""

_LEARNING_RATE = 1e-3
"""Not the recipe's: at 2e-3 the rounding of bfloat16 alone moves the loss after 10 steps by several per cent."""

_NOT_COUNTED = 2  # first steps, in which memory is found and kernels are chosen


# ---- One side, in a process of its own


def _problem(data: str) -> tuple[Any, list[Any], list[Any]]:
    """Recipe, training and validation examples of a data set."""
    from harness.data import read_split
    from harness.recipes import load_recipe
    from harness.records import Message

    name = "transaction_category" if data == "shared_prompt" else data
    recipe = load_recipe(ROOT / "fixtures" / "recipes" / f"{name}.yaml")
    given = recipe.data
    splits = [
        list(read_split(file, task=given.task, system=given.system, labels=given.labels))
        for file in (given.train, given.validation)
    ]
    if data == "shared_prompt":
        splits = [
            [
                replace(e, messages=(Message("system", _SYSTEM), *(m for m in e.messages if m.role != "system")))
                for e in split
            ]
            for split in splits
        ]
    return recipe, splits[0], splits[1]


def _train(side: str, data: str, steps: int, device: str, folder: Path) -> dict[str, Any]:
    import torch

    from harness.engine.chat import training_sequences
    from harness.engine.memory import token_budget
    from harness.engine.models import LoadedModel, choose_device, load_base, load_tokenizer, takes_rows
    from harness.engine.prompts import shared_length
    from harness.engine.scoring import score_continuations

    recipe, train, validation = _problem(data)
    device = choose_device(device)
    if side == "project":
        loaded = load_base(folder, recipe.quantization, device)
    else:
        loaded = LoadedModel(stock_model(folder, recipe.quantization, device), load_tokenizer(folder), device)
    arguments = {**recipe.training, "learning_rate": _LEARNING_RATE, "max_steps": steps}
    on_gpu = loaded.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(loaded.device)
    with tempfile.TemporaryDirectory() as work:
        if side == "project":
            model, seconds = _project(loaded, train, recipe, arguments, Path(work))
            examples = recipe.training["per_device_train_batch_size"]
        else:
            model, seconds, examples = _peer(loaded, train, recipe, arguments, Path(work), side)
    gpu_gb = torch.cuda.max_memory_allocated(loaded.device) / 1e9 if on_gpu else None
    sequences = training_sequences(loaded.tokenizer, validation)
    model.eval()
    with torch.autocast(loaded.device.split(":")[0], torch.bfloat16):
        scores = score_continuations(
            model,
            sequences,
            budget=token_budget(model, max(len(s.inputs) for s in sequences), loaded.device),
            device=loaded.device,
            share=takes_rows(model),
        )
    training = training_sequences(loaded.tokenizer, train)
    return {
        "seconds": seconds,
        "examples": examples,
        "gpu_gb": gpu_gb,
        "attention": model.config._attn_implementation,
        "validation_loss": -sum(s.log_likelihood for s in scores) / sum(len(s.continuation) for s in sequences),
        "shared": shared_length([s.prefix for s in training]),
        "mean_tokens": statistics.fmean(len(s.inputs) + 1 for s in training),
    }


def _project(
    loaded: Any, train: list[Any], recipe: Any, arguments: dict[str, Any], work: Path
) -> tuple[Any, list[float]]:
    from harness.engine.training import train_adapter
    from harness.progress import Silent

    # One validation example: validating is not what is compared, and both sides are measured afterwards.
    train_adapter(
        loaded,
        train=train,
        validation=train[:1],
        lora=recipe.lora,
        training=arguments,
        seed=recipe.seed,
        folder=work,
        progress=Silent(),
    )
    lines = [json.loads(line) for line in (work / "training_log.jsonl").read_text().splitlines()]
    ends = [0.0, *(line["seconds"] for line in lines if "loss" in line)]
    loaded.attach(work)
    return loaded.model, [after - before for before, after in itertools.pairwise(ends)]


def _peer(
    loaded: Any, train: list[Any], recipe: Any, arguments: dict[str, Any], work: Path, side: str
) -> tuple[Any, list[float], float]:
    """Also how many examples a step has: packed rows hold more or fewer than the recipe says."""
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from transformers.utils import is_flash_attn_2_available
    from trl import SFTConfig, SFTTrainer

    from harness.engine.chat import training_sequences
    from harness.engine.training import training_arguments

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_positional: Any, **_named: Any) -> None:
            ends.append(time.monotonic())

        on_step_end = on_train_begin

    rows = [
        {
            "input_ids": [*s.prefix, *s.continuation],
            "completion_mask": [0] * len(s.prefix) + [1] * len(s.continuation),
        }
        for s in training_sequences(loaded.tokenizer, train)
    ]
    own = {"eval_strategy": "no", "remove_unused_columns": True, "dataset_kwargs": None}
    examples = arguments["per_device_train_batch_size"]
    if side == "peer":
        own["activation_checkpointing"] = True  # TRL's default
    if side == "packing":
        if loaded.device.startswith("cuda") and is_flash_attn_2_available():
            loaded.model.set_attn_implementation("flash_attention_2")
        tokens = sum(len(row["input_ids"]) for row in rows)
        batch = max(1, round(examples * tokens / len(rows) / _PACKED_TOKENS))
        own |= {"packing": True, "max_length": _PACKED_TOKENS, "per_device_train_batch_size": batch}
    trainer = SFTTrainer(
        model=loaded.model,
        args=SFTConfig(**{**training_arguments(arguments, loaded, recipe.seed, work), **own}),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
        peft_config=LoraConfig(**recipe.lora, task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    if side == "packing":
        examples = own["per_device_train_batch_size"] * len(rows) / len(trainer.train_dataset)
    trainer.train()
    return trainer.model, [after - before for before, after in itertools.pairwise(ends)], examples


# ---- Both sides


def compare(data: str, steps: int, device: str, model: Path) -> list[tuple[str, ...]]:
    """Rows of the table for one data set. Raises BenchmarkError where a side fails."""
    results, peaks = {}, {}
    for side in SIDES:
        print(f"--- {data}: {side}", file=sys.stderr)
        command = [sys.executable, __file__, "--side", side, "--data", data, "--steps", str(steps)]
        command += ["--device", device, "--model", str(model)]
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "result.json"
            run = measured([*command, "--output", str(output)], cwd=ROOT)
            if run.status != 0:
                raise BenchmarkError(f"{side} on {data} ended with exit status {run.status}")
            results[side] = json.loads(output.read_text())
        on_gpu = results[side]["gpu_gb"] is not None
        peaks[side] = results[side]["gpu_gb"] if on_gpu else run.peak_gb
    peer, ours = results["peer"], results["project"]
    step = {side: statistics.median(result["seconds"][_NOT_COUNTED:]) for side, result in results.items()}
    about = f"{data}: {ours['mean_tokens']:.0f} tokens an example, {ours['shared']} of them shared by all"
    loss = ours["validation_loss"] / peer["validation_loss"]
    packing = results["packing"]
    each = {side: 1000 * step[side] / results[side]["examples"] for side in ("packing", "project")}
    return [
        ratio_row(f"{about}; s a step", step["peer"], step["project"], DATA[data]),
        ratio_row(
            f"{data}: the same with the harness' activation checkpointing", step["quick"], step["project"], DATA[data]
        ),
        ratio_row(
            f"{data}: so again, packed, attention {packing['attention']}; ms an example",
            each["packing"],
            each["project"],
            1.0,
        ),
        (
            f"{data}: validation loss after {steps} steps",
            f"{peer['validation_loss']:.4f}",
            f"{ours['validation_loss']:.4f}",
            f"{loss:.4f}",
            "within 2 %",
            "met" if abs(loss - 1) <= 0.02 else "missed",
        ),
        (
            f"{data}: peak memory{' of the GPU' if on_gpu else ''}, GB",
            f"{peaks['peer']:.2f}",
            f"{peaks['project']:.2f}",
            f"{peaks['project'] / peaks['peer']:.2f}",
            "not above",
            "met" if peaks["project"] <= peaks["peer"] else "missed",
        ),
    ]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="training.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", action="append", choices=sorted(DATA), help="only this one; repeatable")
    parser.add_argument("--steps", type=int, default=16, help="of each side (16)")
    add_device(parser)
    add_date(parser)
    add_base_options(parser)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.steps <= _NOT_COUNTED:
        parser.error(f"--steps must be more than {_NOT_COUNTED}, got {chosen.steps}: the first do not count")
    if chosen.side:
        result = _train(chosen.side, chosen.data[0], chosen.steps, chosen.device, chosen.model)
        chosen.output.write_text(json.dumps(result))
        return 0
    rows: list[tuple[str, ...]] = []
    try:
        with chosen_base(chosen) as (model, named):
            for data in chosen.data or DATA:
                rows += compare(data, chosen.steps, chosen.device, model)
    except BenchmarkError as error:
        print(f"training.py: {error}", file=sys.stderr)
        return 1
    print_comparison(
        f"Median of steps {_NOT_COUNTED + 1} to {chosen.steps}, each side in a process of its own; {named}",
        chosen.date,
        "SFTTrainer",
        rows,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
