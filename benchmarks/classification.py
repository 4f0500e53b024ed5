"""How fast a classification test set is measured beside batched `generate` and string matching.

    python benchmarks/classification.py                 # transaction_category: its adapter, prompted base and base
    python benchmarks/classification.py --view adapter --items 96 --adapter DIR

Both sides answer the same prompts with the same NF4 model and adapter: the peer generates in padded batches of 8 and
looks for the label in the text, the project scores the labels that can be the likeliest. Each runs in a process of its
own; loading is not counted. Without --adapter the recipe is trained first, which is not counted either.
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

from _common import ROOT, BenchmarkError, add_date, add_device, measured, print_comparison, ratio_row, stock_model

TARGET = 3.0
VIEWS = ("adapter", "prompted_base", "base")
_RECIPE = "transaction_category"
_BATCH = 8


# ---- One side, in a process of its own


def _run_of_recipe(device: str, store: Path) -> Any:
    """The recipe in the harness' own pipeline, which also says what each view is asked."""
    from harness.pipeline.evaluation import RecipeRun
    from harness.progress import Silent
    from harness.recipes import load_recipe
    from harness.store import Store

    recipe = load_recipe(ROOT / "fixtures" / "recipes" / f"{_RECIPE}.yaml")
    return RecipeRun(recipe, store=Store(store), progress=Silent(), device=None if device == "auto" else device)


def _train(device: str, store: Path) -> dict[str, Any]:
    return {"folder": str(_run_of_recipe(device, store).adapter().folder)}


def _answer(side: str, items: int, device: str, adapter: Path | None, views: Sequence[str]) -> dict[str, Any]:
    from harness.engine.models import choose_device, load_base

    with tempfile.TemporaryDirectory() as store:
        run = _run_of_recipe(device, Path(store))
    recipe, labels = run.recipe, run.recipe.data.labels
    folder = run.base.folder(print)
    loaded = load_base(folder, recipe.quantization, choose_device(device))
    if side == "peer":
        loaded.model = stock_model(folder, recipe.quantization, loaded.device)
    results: dict[str, Any] = {}
    for view in sorted(views, key=VIEWS.index, reverse=True):  # the adapter last: it stays on the model
        if view == "adapter" and adapter is not None:
            _attach(loaded, adapter, side)
        examples = run.examples(view)[:items]
        started = time.perf_counter()
        answers = (_generated if side == "peer" else _scored)(loaded, examples, labels)
        seconds = time.perf_counter() - started
        right = sum(answer == example.label for answer, example in zip(answers, examples, strict=True))
        results[view] = {"seconds": seconds, "accuracy": right / len(examples), "items": len(examples)}
        print(f"{side}, {view}: {seconds:.1f} s", file=sys.stderr)
    return results


def _attach(loaded: Any, adapter: Path, side: str) -> None:
    if side == "project":
        loaded.attach(adapter)
    else:
        from peft import PeftModel

        loaded.model = PeftModel.from_pretrained(loaded.model, str(adapter)).eval()


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

    choices = score_options(loaded, loaded.model, examples, labels, view="", every=False)
    return [
        labels[max((o for o, value in enumerate(row) if value is not None), key=lambda o: row[o])]
        for row in choices.log_likelihoods
    ]


# ---- Both sides


def compare(items: int, device: str, views: Sequence[str], adapter: Path | None) -> list[tuple[str, ...]]:
    """Rows of the table. Raises BenchmarkError where a side fails."""
    results = {}
    with tempfile.TemporaryDirectory() as store:
        common = ["--items", str(items), "--device", device, *(f"--view={view}" for view in views)]
        if "adapter" in views and adapter is None:
            common += ["--adapter", _side("training", [*common, "--store", store])["folder"]]
        elif adapter is not None:
            common += ["--adapter", str(adapter)]
        for side in ("peer", "project"):
            results[side] = _side(side, common)
    peer, ours = results["peer"], results["project"]
    rows = []
    for view in views:
        name = view.replace("_", " ")
        rows += [
            ratio_row(f"{name}: {ours[view]['items']} items, s", peer[view]["seconds"], ours[view]["seconds"], TARGET),
            (f"{name}: accuracy", f"{peer[view]['accuracy']:.3f}", f"{ours[view]['accuracy']:.3f}", "", "", ""),
        ]
    if len(views) > 1:
        whole = [sum(result[view]["seconds"] for view in views) for result in (peer, ours)]
        rows.append(ratio_row("these together, s", whole[0], whole[1], TARGET))
    return rows


def _side(side: str, options: Sequence[str]) -> Any:
    print(f"--- {side}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--side", side, *options, "--output", str(output)]
        run = measured(command, cwd=ROOT)
        if run.status != 0:
            raise BenchmarkError(f"{side} ended with exit status {run.status}")
        return json.loads(output.read_text())


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="classification.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=360, help="of the test set (360, all)")
    parser.add_argument("--view", action="append", choices=VIEWS, help="only this one; repeatable")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="of the recipe; without one it is trained first")
    add_device(parser)
    add_date(parser)
    parser.add_argument("--side", choices=("training", "peer", "project"), help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.items < 1:
        parser.error(f"--items must be at least 1, got {chosen.items}")
    if chosen.adapter is not None:
        if not (chosen.adapter / "adapter_config.json").is_file():
            parser.error(f"--adapter {chosen.adapter} has no adapter_config.json; name the folder of an adapter")
        chosen.adapter = chosen.adapter.resolve()
    views = [view for view in VIEWS if view in (chosen.view or VIEWS)]
    if chosen.side:
        if chosen.side == "training":
            result = _train(chosen.device, chosen.store)
        else:
            result = _answer(chosen.side, chosen.items, chosen.device, chosen.adapter, views)
        chosen.output.write_text(json.dumps(result))
        return 0
    try:
        rows = compare(chosen.items, chosen.device, views, chosen.adapter)
    except BenchmarkError as error:
        print(f"classification.py: {error}", file=sys.stderr)
        return 1
    print_comparison(f"{_RECIPE}, NF4, each side in a process of its own", chosen.date, "generate, batch 8", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
