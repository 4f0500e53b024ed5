"""How fast answers are generated beside transformers' `generate` and its continuous batching, and whether they differ.

    python benchmarks/generation.py                            # two recipes, base and prompted base, NF4 and fp32
    python benchmarks/generation.py --recipe ticket_priority --view base --precision fp32 --items 16
    python benchmarks/generation.py --shape 8b --precision bf16  # on a GPU: a model of that shape, with random weights

The peers are `generate` in padded batches of 8, and `generate_batch`, which puts the next prompt in the place of an
answer that has ended, and keeps the blocks of keys and values that prompts share. All are asked the same prompts,
greedy, with the same end tokens, each in a process of its own; loading is not counted. Prints Markdown: seconds, their
ratios, and how many answers are those of `generate`. In fp32 all must be; otherwise the order of additions shows.
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
    add_base_options,
    add_date,
    add_device,
    chosen_base,
    measured,
    print_comparison,
    ratio_row,
    stock_model,
)

TARGET = 1.0
SIDES = ("generate", "continuous", "project")
RECIPES = ("postgres_assistant", "ticket_priority")
VIEWS = ("base", "prompted_base")
PRECISIONS = ("nf4", "fp32")
_BATCH = 8


# ---- One side, in a process of its own


def _answer(side: str, recipe_name: str, view: str, precision: str, items: int, device: str, folder: Path) -> Any:
    from harness.engine.models import LoadedModel, choose_device, load_base, load_tokenizer
    from harness.pipeline.evaluation import RecipeRun
    from harness.progress import Silent
    from harness.recipes import load_recipe
    from harness.store import Store

    recipe = load_recipe(ROOT / "fixtures" / "recipes" / f"{recipe_name}.yaml")
    with tempfile.TemporaryDirectory() as store:  # which stays empty: the run only says what the view is asked
        run = RecipeRun(recipe, store=Store(Path(store)), progress=Silent(), device=None)
        examples = run.examples(view)[:items]
    device, quantization = choose_device(device), QUANTIZATION[precision]
    if side == "project":
        loaded = load_base(folder, quantization, device)
    else:
        loaded = LoadedModel(stock_model(folder, quantization, device), load_tokenizer(folder), device)
    ask = {"generate": _padded, "continuous": _continuous, "project": _project}[side]
    started = time.perf_counter()
    texts = ask(loaded, examples, recipe.evaluation.max_new_tokens)
    return {"seconds": time.perf_counter() - started, "texts": texts}


def _project(loaded: Any, examples: Sequence[Any], limit: int) -> list[str]:
    from harness.engine.generation import generate_answers

    outputs = generate_answers(
        loaded.model,
        loaded.tokenizer,
        examples,
        view="",
        max_new_tokens=limit,
        context_length=loaded.context_length,
        device=loaded.device,
    )
    return list(outputs.texts)


def _padded(loaded: Any, examples: Sequence[Any], limit: int) -> list[str]:
    import torch

    prompts, config, texts = _prompts(loaded, examples), _greedy(loaded, limit), []
    for start in range(0, len(prompts), _BATCH):
        asked = {"input_ids": prompts[start : start + _BATCH]}
        batch = loaded.tokenizer.pad(asked, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            made = loaded.model.generate(**batch.to(loaded.device), generation_config=config)
        texts += [_text(loaded, line, config) for line in made[:, batch["input_ids"].shape[1] :].tolist()]
    return texts


def _continuous(loaded: Any, examples: Sequence[Any], limit: int) -> list[str]:
    from transformers import ContinuousBatchingConfig
    from transformers.utils import is_flash_attn_2_available

    config = _greedy(loaded, limit)
    if loaded.device.startswith("cuda") and is_flash_attn_2_available() and loaded.model.dtype.itemsize == 2:
        loaded.model.set_attn_implementation("flash_attention_2")
    # It would fill most of a CPU's free memory with zeros first, which took 9 s of 24 GB; a tenth holds these answers.
    share = None if loaded.device.startswith("cuda") else 0.1
    prompts = _prompts(loaded, examples)
    made = loaded.model.generate_batch(
        prompts,
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(max_memory_percent=share),
    )
    answers = list(made.values())  # in the order of the prompts
    if len(answers) != len(prompts) or any(answer.error for answer in answers):
        raise BenchmarkError(f"continuous batching left {len(answers)} answers to {len(prompts)} prompts")
    return [_text(loaded, answer.generated_tokens, config) for answer in answers]


def _prompts(loaded: Any, examples: Sequence[Any]) -> list[list[int]]:
    from harness.engine.chat import prompt_tokens

    return [list(prompt_tokens(loaded.tokenizer, example.messages)) for example in examples]


def _greedy(loaded: Any, limit: int) -> Any:
    from transformers import GenerationConfig

    from harness.engine.generation import stop_ids

    return GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=stop_ids(loaded.model, loaded.tokenizer),
        pad_token_id=loaded.tokenizer.pad_token_id,
    )


def _text(loaded: Any, tokens: list[int], config: Any) -> str:
    end = next((place for place, token in enumerate(tokens) if token in config.eos_token_id), None)
    return str(loaded.tokenizer.decode(tokens[:end], skip_special_tokens=True)).strip()


# ---- All sides


def compare(recipe: str, view: str, precision: str, items: int, device: str, model: Path) -> list[tuple[str, ...]]:
    """Rows of the table for one view of a recipe. Raises BenchmarkError where a side fails."""
    results = {}
    for side in SIDES:
        print(f"--- {recipe}, {view}, {precision}: {side}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "result.json"
            command = [sys.executable, __file__, "--side", side, "--recipe", recipe, "--view", view]
            command += ["--precision", precision, "--items", str(items), "--device", device]
            run = measured([*command, "--model", str(model), "--output", str(output)], cwd=ROOT)
            if run.status != 0:
                raise BenchmarkError(f"{side} ended with exit status {run.status}")
            results[side] = json.loads(output.read_text())
    ours, expected = results["project"], results["generate"]["texts"]
    about = f"{recipe}, {view.replace('_', ' ')}, {precision}"
    same = {
        side: sum(one == other for one, other in zip(result["texts"], expected, strict=True))
        for side, result in results.items()
    }
    count, exact = len(expected), precision == "fp32"
    return [
        ratio_row(
            f"{about}: beside generate, batch {_BATCH}; {count} answers, s", *_seconds(results, "generate"), TARGET
        ),
        ratio_row(f"{about}: beside continuous batching; s", *_seconds(results, "continuous"), TARGET),
        (
            f"{about}: answers as generate's, of continuous batching and of the project",
            f"{same['continuous']} of {count}",
            f"{same['project']} of {count}",
            "",
            "all" if exact else "",
            ("met" if ours["texts"] == expected else f"missed by {count - same['project']}") if exact else "",
        ),
    ]


def _seconds(results: dict[str, Any], peer: str) -> tuple[float, float]:
    return results[peer]["seconds"], results["project"]["seconds"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="generation.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="only this one; repeatable")
    parser.add_argument("--view", action="append", choices=VIEWS, help="only this one; repeatable")
    parser.add_argument(
        "--precision", action="append", choices=sorted(QUANTIZATION), help="instead of nf4 and fp32; repeatable"
    )
    parser.add_argument("--items", type=int, default=32, help="of the test set (32)")
    add_device(parser)
    add_date(parser)
    add_base_options(parser)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.items < 1:
        parser.error(f"--items must be at least 1, got {chosen.items}")
    asked = [
        (recipe, view, precision)
        for recipe in chosen.recipe or RECIPES
        for view in chosen.view or VIEWS
        for precision in chosen.precision or PRECISIONS
    ]
    try:
        if chosen.side:
            result = _answer(chosen.side, *asked[0], chosen.items, chosen.device, chosen.model)
            chosen.output.write_text(json.dumps(result))
            return 0
        rows: list[tuple[str, ...]] = []
        with chosen_base(chosen) as (model, named):
            for each in asked:
                rows += compare(*each, chosen.items, chosen.device, model)
    except BenchmarkError as error:
        print(f"generation.py: {error}", file=sys.stderr)
        return 1
    print_comparison(f"Greedy answers, each side in a process of its own; {named}", chosen.date, "peer", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
