"""How fast multiple-choice items are scored beside lm-eval's own HFLM, and whether the numbers are the same.

    python benchmarks/capability.py                                  # 500 items of ARC-Easy in three precisions
    python benchmarks/capability.py --precision fp32 --items 100
    python benchmarks/capability.py --items 300 --commands           # lm_eval as a command, for base and adapter

Each side runs in a process of its own, in turn, on the same items. Loading the model is not counted, except with
--commands, where whole processes are compared: `lm_eval` twice against one that scores both views from one load.
Prints Markdown: seconds, ratio, and the largest difference of an item's log-likelihoods.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import (
    QUANTIZATION,
    ROOT,
    BenchmarkError,
    Measured,
    add_base_options,
    add_date,
    add_device,
    arc_easy,
    base_folder,
    chosen_base,
    measured,
    print_comparison,
    ratio_row,
    stock_model,
)

TARGETS = {"fp32": 2.5, "bf16": 1.7, "nf4": 1.7}
"""Precision -> how many times faster than HFLM at batch 8 is the target."""
COMMANDS_TARGET = 5.0

# In bfloat16: lm_eval 0.4.13 hands load_in_4bit to a from_pretrained that no longer takes it in transformers 5.
_MODEL_ARGS = "dtype=bfloat16"
_TASK = "arc_easy_local"


# ---- One side, in a process of its own


def _score(side: str, precision: str, tasks: Path, device: str, folder: Path) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from harness.engine.capability import language_model
    from harness.engine.models import choose_device, load_base

    loaded = load_base(folder, QUANTIZATION[precision], choose_device(device))
    if side == "peer":
        stock = stock_model(folder, QUANTIZATION[precision], loaded.device)
        model = HFLM(pretrained=stock, tokenizer=loaded.tokenizer, batch_size=8, device=loaded.device)
    else:
        model = language_model(loaded, loaded.model)
    started = time.perf_counter()
    results = simple_evaluate(
        model=model,
        tasks=[_TASK],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    seconds = time.perf_counter() - started
    samples = sorted(results["samples"][_TASK], key=lambda sample: sample["doc_id"])
    return {
        "seconds": seconds,
        "accuracy": sum(sample["acc"] for sample in samples) / len(samples),
        "log_likelihoods": [[response[0] for response in sample["filtered_resps"]] for sample in samples],
    }


def _both_views(tasks: Path, adapter: Path, device: str) -> dict[str, Any]:
    """What the harness does for a capability gate: one load, both views."""
    from harness.engine.capability import run_task
    from harness.engine.models import choose_device, load_base

    loaded = load_base(base_folder(), QUANTIZATION["bf16"], choose_device(device))
    loaded.attach(adapter)
    with loaded.base_view() as model:
        base = run_task(loaded, model, _TASK, tasks)
    with loaded.adapter_view() as model:
        tuned = run_task(loaded, model, _TASK, tasks)
    return {"accuracies": [sum(view.metrics["acc"]) / len(view.ids) for view in (base, tuned)]}


def _write_adapter(folder: Path) -> None:
    """Random low-rank weights, small enough to leave a model that still answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base_folder())
    tuned = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.002)
    tuned.save_pretrained(folder)


# ---- Both sides


def _child(output: Path, *options: str) -> tuple[dict[str, Any], Measured]:
    run = measured([sys.executable, __file__, *options, "--output", str(output)], cwd=ROOT)
    if run.status != 0:
        raise BenchmarkError(f"{' '.join(options)} ended with exit status {run.status}")
    return json.loads(output.read_text()), run


def compare(precision: str, tasks: Path, items: int, device: str, model: Path) -> list[tuple[str, ...]]:
    """Rows of the table for one precision. Raises BenchmarkError where a side fails."""
    results = {}
    for side in ("peer", "project"):
        print(f"--- {precision}: {side}", file=sys.stderr)
        options = ["--side", side, "--precision", precision, "--tasks", str(tasks), "--device", device]
        results[side], _ = _child(tasks / f"{side}.json", *options, "--model", str(model))
    peer, ours = results["peer"], results["project"]
    pairs = zip(peer["log_likelihoods"], ours["log_likelihoods"], strict=True)
    largest = max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
    exact = precision == "fp32"
    return [
        ratio_row(f"{precision}: {items} items, s", peer["seconds"], ours["seconds"], TARGETS[precision]),
        (
            f"{precision}: largest difference of a log-likelihood",
            "",
            "",
            f"{largest:.1e}",
            "at most 1e-3" if exact else "",
            ("met" if largest <= 1e-3 else "missed") if exact else "",
        ),
        (
            f"{precision}: accuracy",
            f"{peer['accuracy']:.3f}",
            f"{ours['accuracy']:.3f}",
            f"{ours['accuracy'] - peer['accuracy']:+.3f}",
            "the same" if exact else "",
            ("met" if peer["accuracy"] == ours["accuracy"] else "missed") if exact else "",
        ),
    ]


def compare_commands(tasks: Path, items: int, device: str, batch_size: int) -> tuple[str, ...]:
    """`lm_eval` for the base and again for the adapter, against one process for both, bfloat16, wall time of all."""
    adapter = tasks / "adapter"
    if not adapter.exists():
        _write_adapter(adapter)
    lm_eval = str(Path(sys.executable).with_name("lm_eval"))
    peer = 0.0
    for more in ("", f",peft={adapter}"):
        command = [lm_eval, "run", "--model", "hf", "--model_args", f"pretrained={base_folder()},{_MODEL_ARGS}{more}"]
        command += ["--tasks", _TASK, "--include_path", str(tasks), "--batch_size", str(batch_size)]
        command += ["--device", device] if device != "auto" else []
        run = measured(command, cwd=ROOT)
        if run.status != 0:
            raise BenchmarkError(f"lm_eval ended with exit status {run.status}")
        peer += run.seconds
    _, run = _child(
        tasks / "both.json", "--side", "both", "--tasks", str(tasks), "--adapter", str(adapter), "--device", device
    )
    return ratio_row(
        f"whole commands: base and adapter, bf16, {items} items, lm_eval at batch {batch_size}; s",
        peer,
        run.seconds,
        COMMANDS_TARGET,
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="capability.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--precision", action="append", choices=list(TARGETS), help="only this one; repeatable")
    parser.add_argument("--items", type=int, default=500, help="of ARC-Easy's test set (500)")
    parser.add_argument("--commands", action="store_true", help="compare whole commands instead")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with arc_easy/")
    add_device(parser)
    add_date(parser)
    add_base_options(parser)
    for hidden in ("--side", "--output", "--tasks", "--adapter"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.commands and (chosen.shape or chosen.model):
        parser.error("--commands compares on the recipes' base model; leave out --shape and --model")
    if chosen.side:
        if chosen.side == "both":
            result = _both_views(Path(chosen.tasks), Path(chosen.adapter), chosen.device)
        else:
            result = _score(chosen.side, chosen.precision[0], Path(chosen.tasks), chosen.device, chosen.model)
        Path(chosen.output).write_text(json.dumps(result))
        return 0
    rows: list[tuple[str, ...]] = []
    named = "the recipes' base model"
    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder)
        try:
            arc_easy(chosen.data, tasks, _TASK, chosen.items)
            if chosen.commands:
                rows += [compare_commands(tasks, chosen.items, chosen.device, size) for size in (1, 8)]
            else:
                with chosen_base(chosen) as (model, named):
                    for precision in chosen.precision or TARGETS:
                        rows += compare(precision, tasks, chosen.items, chosen.device, model)
        except BenchmarkError as error:
            print(f"capability.py: {error}", file=sys.stderr)
            return 1
    peer = "lm_eval twice" if chosen.commands else "HFLM, batch 8"
    print_comparison(
        f"ARC-Easy, {chosen.items} items, each side in a process of its own; {named}", chosen.date, peer, rows
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
