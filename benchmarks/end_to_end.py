"""A whole evaluation beside the same work by hand: Banking77, train, macro-F1, and ARC-Easy on base and adapter.

    python benchmarks/end_to_end.py             # about half an hour on 2 cores, most of it for the work by hand

By hand is what tutorials show: a script with TRL's SFTTrainer, a script that generates and matches strings, and the
`lm_eval` command twice. The project's side is one `pytest suites/` in a project with one recipe. Same base model, NF4,
data, epochs, rate and batch size. Prints Markdown: wall time of whole commands, their ratio, and macro-F1.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import ROOT, BenchmarkError, add_date, arc_easy, measured, print_comparison, ratio_row

TARGET = 5.0
_INTENTS, _TRAIN, _TEST = 12, 300, 180
_SYSTEM = "Name the intent of this message to a bank. Answer with just one of: {intents}."
_TASK = "arc_easy_local"
_ARGUMENTS = {
    "num_train_epochs": 3,
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "cosine",
}
_LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
_NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


# ---- The data


def write_banking77(data: Path, folder: Path) -> list[str]:
    """train, validation and test files of 12 intents in `folder`; returns the intents.

    Which intents and texts is drawn with a fixed seed. Raises BenchmarkError where the data is not there.
    """
    source = data / "banking77"
    if not (source / "train.csv").is_file():
        raise BenchmarkError(f"{source}/train.csv is not there. Name the folder of the public data with --data.")
    draw = random.Random(77)
    intents = sorted(draw.sample(json.loads((source / "categories.json").read_text(encoding="utf-8")), _INTENTS))
    seen: set[str] = set()
    for split, file, count in (("test", "test.csv", _TEST), ("train", "train.csv", _TRAIN + 24)):
        with (source / file).open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["category"] in intents]
        draw.shuffle(rows)
        kept = []
        for row in rows:
            text = " ".join(row["text"].split())
            key = "".join(c for c in text.lower() if c.isalnum())
            if key not in seen:
                seen.add(key)
                kept.append({"id": f"{split}-{len(kept)}", "text": text, "label": row["category"]})
        kept = _balanced(kept, intents, count)
        parts = {"train": kept[:_TRAIN], "validation": kept[_TRAIN:]} if split == "train" else {"test": kept}
        for name, lines in parts.items():
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return intents


def _balanced(rows: Sequence[dict[str, str]], intents: Sequence[str], count: int) -> list[dict[str, str]]:
    """`count` rows, the intents taking turns. Raises BenchmarkError where an intent has too few."""
    by_intent = {intent: [row for row in rows if row["label"] == intent] for intent in intents}
    turns = [by_intent[intents[turn % len(intents)]] for turn in range(count)]
    if any(turns.count(rows) > len(rows) for rows in by_intent.values()):
        raise BenchmarkError("Banking77 has too few texts of one of the drawn intents")
    return [rows.pop() for rows in turns]


# ---- By hand


def _by_hand_train(folder: Path) -> None:
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    given = json.loads((folder / "given.json").read_text())
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows = [
        {
            "prompt": [{"role": "system", "content": given["system"]}, {"role": "user", "content": line["text"]}],
            "completion": [{"role": "assistant", "content": line["label"]}],
        }
        for line in lines
    ]
    tokenizer = AutoTokenizer.from_pretrained(given["base"])
    model = AutoModelForCausalLM.from_pretrained(
        given["base"], quantization_config=BitsAndBytesConfig(**_NF4), dtype=torch.bfloat16
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "by_hand"),
            report_to="none",
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            seed=0,
            **_ARGUMENTS,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(**_LORA, task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model(str(folder / "adapter"))


def _by_hand_evaluate(folder: Path) -> None:
    import torch
    from peft import PeftModel
    from sklearn.metrics import f1_score
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    given = json.loads((folder / "given.json").read_text())
    lines = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(given["base"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(
        given["base"],
        quantization_config=BitsAndBytesConfig(**_NF4),
        dtype=torch.bfloat16,
        device_map="cuda" if torch.cuda.is_available() else "cpu",
    )
    model = PeftModel.from_pretrained(model, str(folder / "adapter")).eval()
    found = []
    for start in range(0, len(lines), 8):
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "system", "content": given["system"]}, {"role": "user", "content": line["text"]}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for line in lines[start : start + 8]
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        made = model.generate(**batch, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        for text in tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True):
            found.append(next((intent for intent in given["intents"] if text.strip() == intent), "none"))
    truth = [line["label"] for line in lines]
    score = f1_score(truth, found, labels=given["intents"], average="macro", zero_division=0)
    (folder / "by_hand.json").write_text(json.dumps({"macro_f1": score}))


def by_hand(folder: Path, base: str) -> tuple[list[tuple[str, float]], float]:
    """(command, seconds) of each step, and macro-F1. Raises BenchmarkError where one fails."""
    lm_eval = [str(Path(sys.executable).with_name("lm_eval")), "run", "--model", "hf", "--tasks", _TASK]
    lm_eval += ["--include_path", str(folder), "--batch_size", "8"]
    # In bfloat16: lm_eval 0.4.13 hands load_in_4bit to a from_pretrained that no longer takes it in transformers 5.
    loading = f"pretrained={base},dtype=bfloat16"
    steps = {
        "train": [sys.executable, __file__, "--step", "train", "--folder", str(folder)],
        "evaluate": [sys.executable, __file__, "--step", "evaluate", "--folder", str(folder)],
        "lm_eval, base": [*lm_eval, "--model_args", loading],
        "lm_eval, adapter": [*lm_eval, "--model_args", f"{loading},peft={folder / 'adapter'}"],
    }
    seconds = []
    for name, command in steps.items():
        print(f"--- by hand: {name}", file=sys.stderr)
        run = measured(command, cwd=ROOT)
        if run.status != 0:
            raise BenchmarkError(f"by hand: {name} ended with exit status {run.status}")
        seconds.append((name, run.seconds))
    return seconds, json.loads((folder / "by_hand.json").read_text())["macro_f1"]


# ---- The project


_SUITE = f"""\
import pytest
pytestmark = pytest.mark.recipes("banking")

def test_macro_f1(classification, gate):
    gate(classification.macro_f1, at_least=0.5)

def test_forgetting(capability, gate):
    for task in capability("{_TASK}"):
        gate(task.accuracy, compared_with="base", max_drop=0.9)
"""


def write_project(folder: Path, base: str, system: str, intents: Sequence[str]) -> None:
    recipe: dict[str, Any] = {
        "name": "banking",
        "base": {"model": base},
        "quantization": _NF4,
        "lora": _LORA,
        "training": _ARGUMENTS,
        "data": {
            "task": "classification",
            "system": system,
            **{split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")},
            "labels": list(intents),
        },
        "evaluation": {"capability": str(folder)},
        "seed": 0,
    }
    (folder / "fixtures" / "recipes").mkdir(parents=True)
    (folder / "fixtures" / "recipes" / "banking.yaml").write_text(json.dumps(recipe, indent=2))  # JSON is YAML
    (folder / "suites").mkdir()
    (folder / "suites" / "test_banking.py").write_text(_SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")


def project(folder: Path) -> tuple[float, float]:
    """Seconds and macro-F1 of the adapter. Raises BenchmarkError where the run has no report."""
    print("--- project", file=sys.stderr)
    run = measured([sys.executable, "-m", "pytest", "suites/"], cwd=folder)
    report = folder / "reports" / "latest" / "report.json"
    if run.status != 0 or not report.is_file():
        raise BenchmarkError(f"pytest suites/ ended with exit status {run.status}; what it printed is above")
    (recipe,) = json.loads(report.read_text())["recipes"]
    return run.seconds, next(m["value"] for m in recipe["measures"] if "macro" in m["name"] and m["view"] == "adapter")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="end_to_end.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=300, help="of ARC-Easy (300)")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with banking77/ and arc_easy/"
    )
    add_date(parser)
    parser.add_argument("--step", choices=("train", "evaluate"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.step:
        (_by_hand_train if chosen.step == "train" else _by_hand_evaluate)(chosen.folder)
        return 0
    from harness.engine.base_models import resolve_base

    with tempfile.TemporaryDirectory(prefix="end-to-end-") as temporary:
        folder = Path(temporary)
        try:
            intents = write_banking77(chosen.data, folder)
            arc_easy(chosen.data, folder, _TASK, chosen.items)
            base = str(resolve_base("smollm2-135m-instruct", None, relative_to=ROOT).folder(print))
            system = _SYSTEM.format(intents=", ".join(intents))
            (folder / "given.json").write_text(json.dumps({"base": base, "system": system, "intents": intents}))
            write_project(folder, base, system, intents)
            ours, our_f1 = project(folder)
            steps, their_f1 = by_hand(folder, base)
        except BenchmarkError as error:
            print(f"end_to_end.py: {error}", file=sys.stderr)
            return 1
    rows = [
        ratio_row("all, s", sum(seconds for _, seconds in steps), ours, TARGET),
        *((f"by hand: {name}, s", f"{seconds:,.1f}", "", "", "", "") for name, seconds in steps),
        (
            "macro-F1 of the adapter",
            f"{their_f1:.3f}",
            f"{our_f1:.3f}",
            f"{our_f1 - their_f1:+.3f}",
            "not below",
            "met" if our_f1 >= their_f1 else "missed",
        ),
    ]
    print_comparison(
        f"Banking77, {_INTENTS} intents, {_TRAIN} train, {_TEST} test; ARC-Easy, {chosen.items} items, both views",
        chosen.date,
        "by hand",
        rows,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
