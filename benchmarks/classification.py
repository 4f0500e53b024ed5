"""How fast a classification test set is measured beside batched `generate` and string matching.

    python benchmarks/classification.py                 # transaction_category, the base model
    python benchmarks/classification.py --items 96

Both sides answer the same prompts with the same NF4 model: the peer generates in padded batches of 8 and looks for the
label in the text, the project scores every label. Each runs in a process of its own; loading is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from _common import ROOT, BenchmarkError, machine_line, measured, ratio_row, stock_model, table

TARGET = 3.0
_RECIPE = "transaction_category"
_BATCH = 8


def _answer(side: str, items: int, device: str) -> dict[str, Any]:
    from harness.data import read_split
    from harness.engine.base_models import resolve_base
    from harness.engine.models import choose_device, load_base
    from harness.recipes import load_recipe

    recipe = load_recipe(ROOT / "fixtures" / "recipes" / f"{_RECIPE}.yaml")
    data = recipe.data
    examples = list(read_split(data.test, task=data.task, system=data.system, labels=data.labels))[:items]
    folder = resolve_base(recipe.base.model, recipe.base.revision, relative_to=ROOT).folder(print)
    loaded = load_base(folder, recipe.quantization, choose_device(device))
    if side == "peer":
        loaded.model = stock_model(folder, recipe.quantization, loaded.device)
    started = time.perf_counter()
    answers = (_generated if side == "peer" else _scored)(loaded, examples, data.labels)
    seconds = time.perf_counter() - started
    right = sum(answer == example.label for answer, example in zip(answers, examples, strict=True))
    return {"seconds": seconds, "accuracy": right / len(examples), "items": len(examples)}


def _generated(loaded: Any, examples: Sequence[Any], labels: Sequence[str]) -> list[str | None]:
    tokenizer = loaded.tokenizer
    tokenizer.padding_side = "left"
    longest = max(len(tokenizer(label, add_special_tokens=False)["input_ids"]) for label in labels) + 1
    answers: list[str | None] = []
    for start in range(0, len(examples), _BATCH):
        texts = [
            tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in example.messages],
                add_generation_prompt=True,
                tokenize=False,
            )
            for example in examples[start : start + _BATCH]
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(loaded.device)
        made = loaded.model.generate(
            **batch, max_new_tokens=longest, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        for text in tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True):
            answers.append(next((label for label in labels if label in text), None))
    return answers


def _scored(loaded: Any, examples: Sequence[Any], labels: Sequence[str]) -> list[str | None]:
    from harness.engine.choices import score_options

    choices = score_options(loaded, loaded.model, examples, labels, view="base")
    return [labels[max(range(len(labels)), key=row.__getitem__)] for row in choices.log_likelihoods]


def compare(items: int, device: str) -> list[tuple[str, ...]]:
    """Rows of the table. Raises BenchmarkError where a side fails."""
    results = {}
    for side in ("peer", "project"):
        print(f"--- {side}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "result.json"
            options = ["--side", side, "--items", str(items), "--device", device, "--output", str(output)]
            run = measured([sys.executable, __file__, *options], cwd=ROOT)
            if run.status != 0:
                raise BenchmarkError(f"{side} ended with exit status {run.status}")
            results[side] = json.loads(output.read_text())
    peer, ours = results["peer"], results["project"]
    return [
        ratio_row(f"{ours['items']} items of {_RECIPE}, s", peer["seconds"], ours["seconds"], TARGET),
        ("accuracy of the base model", f"{peer['accuracy']:.3f}", f"{ours['accuracy']:.3f}", "", "", ""),
    ]


def main(argv: Sequence[str]) -> int:
    from harness.pipeline.identity import provenance

    parser = argparse.ArgumentParser(prog="classification.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=360, help="of the test set (360, all)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:0 (the first GPU, else the CPU)")
    parser.add_argument("--date", default=date.today().isoformat(), help="printed beside the figures (today)")
    parser.add_argument("--side", choices=("peer", "project"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.side:
        chosen.output.write_text(json.dumps(_answer(chosen.side, chosen.items, chosen.device)))
        return 0
    try:
        rows = compare(chosen.items, chosen.device)
    except BenchmarkError as error:
        print(f"classification.py: {error}", file=sys.stderr)
        return 1
    print("The base model of transaction_category, NF4, each side in a process of its own:")
    print(f"\n{machine_line(provenance(ROOT, os.environ), chosen.date)}\n")
    print(table(("figure", "generate, batch 8:", "project:", "ratio:", "target", "result"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
