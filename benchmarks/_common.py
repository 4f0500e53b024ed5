"""What the programs of this folder share: commands that are measured, tables, and the line that names the machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]

_SHAPE = "--make-shape"
_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "lm_eval", "pytest")


class BenchmarkError(Exception):
    """A run left nothing that could be reported; the message is for the person who started it."""


class Measured(NamedTuple):
    """One command: wall and processor time, exit status, peak memory of its largest process, and what it printed."""

    seconds: float
    processor: float
    status: int
    peak_gb: float
    lines: list[str]


def measured(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end, passing its output on to stderr.

    Peak memory is known for all children of a process together, so each command gets a process of its own
    above it; otherwise every run would be charged with the largest so far.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        wrapper = [sys.executable, str(Path(__file__).resolve()), str(result), *command]
        lines: list[str] = []
        with subprocess.Popen(
            wrapper,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # where workers of pytest-xdist say what they do
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    sys.stderr.write(line)
                    sys.stderr.flush()
                    lines.append(line.rstrip("\n"))
            except KeyboardInterrupt:
                process.communicate()  # the run got the signal too; its folders are in use until it ends
                raise
        if not result.is_file():
            raise BenchmarkError(f"{command[0]}: the process that measures it ended early")
        return Measured(**json.loads(result.read_text()), lines=lines)


def _wrap(result: Path, command: Sequence[str]) -> None:
    """The process above one command. Ctrl-C is for the command, and this one waits for its end."""
    signal.signal(signal.SIGINT, lambda _signal, _frame: None)
    started = time.perf_counter()
    status = subprocess.call(command)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    figures = {
        "seconds": seconds,
        "processor": used.ru_utime + used.ru_stime,
        "status": status,
        "peak_gb": used.ru_maxrss * unit / 1e9,
    }
    result.write_text(json.dumps(figures))


QUANTIZATION: dict[str, dict[str, Any]] = {
    "fp32": {"bnb_4bit_compute_dtype": "float32"},
    "bf16": {"bnb_4bit_compute_dtype": "bfloat16"},
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    },
}
"""Precision -> the quantization of a recipe that computes so."""


def base_folder() -> Path:
    """The base model of all recipes of this project."""
    from harness.engine.base_models import resolve_base

    return resolve_base("smollm2-135m-instruct", None, relative_to=ROOT).folder(print)


def stock_model(folder: Path, quantization: Mapping[str, Any], device: str) -> Any:
    """The model as transformers and bitsandbytes load it, without what the harness does to it: for the peer."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    packed = quantization.get("load_in_4bit")
    return AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=BitsAndBytesConfig(**quantization) if packed else None,
        dtype=getattr(torch, quantization["bnb_4bit_compute_dtype"]),
        device_map=device,
    ).eval()


SHAPES: dict[str, dict[str, int]] = {
    "8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "tiny": {
        "vocab_size": 49152,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
"""Sizes of Llama models whose speed is of interest and whose answers are not; "tiny" is there to try a program."""


def add_date(parser: argparse.ArgumentParser) -> None:
    """--date, of the machine line."""
    parser.add_argument("--date", default=date.today().isoformat(), help="printed beside the figures (today)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, as `choose_device` takes it."""
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:0 (the first GPU, else the CPU)")


def add_base_options(parser: argparse.ArgumentParser) -> None:
    """--shape and --model: another base model than the recipes'."""
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--shape", choices=sorted(SHAPES), help="a Llama of this size with random weights as the base")
    base.add_argument("--model", type=_model_folder, metavar="DIR", help="another base model, in a folder")


def _model_folder(given: str) -> Path:
    if not (Path(given) / "config.json").is_file():
        raise argparse.ArgumentTypeError(f"{given} has no config.json; name the folder of a model")
    return Path(given).resolve()


@contextlib.contextmanager
def chosen_base(chosen: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """The base model that the options of `add_base_options` and --device name, and its name for the reader.

    Raises BenchmarkError where a model of the shape cannot be made.
    """
    if not chosen.shape:
        yield chosen.model or base_folder(), str(chosen.model or "the recipes' base model")
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / chosen.shape
        # In a process of its own, which gives all of the device's memory back.
        made = measured([sys.executable, __file__, _SHAPE, chosen.shape, chosen.device, str(model)], cwd=ROOT)
        if made.status != 0:
            raise BenchmarkError(f"making a model of shape {chosen.shape} ended with exit status {made.status}")
        yield model, f"random weights of shape {chosen.shape}"


def _make_shape(shape: str, device: str, folder: Path) -> None:
    from harness.engine.models import choose_device

    # All recipes have the same base; with its tokenizer the same data make the same tokens.
    random_model(folder, shape, base_folder(), choose_device(device))


def random_model(folder: Path, shape: str, tokenizer: Path, device: str) -> None:
    """Save a Llama of SHAPES[shape] with random bfloat16 weights and the tokenizer of another model into `folder`.

    The weights are drawn on `device`, which has to hold them: 16 GB for 8b, and as much on the disk.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    words = AutoTokenizer.from_pretrained(tokenizer)
    special = {name: getattr(words, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[shape], **special), dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="4GB")
    words.save_pretrained(folder)


def arc_easy(data: Path, folder: Path, task: str, items: int) -> None:
    """Write the first `items` questions of ARC-Easy's test set into `folder` as a task of lm-eval.

    data: a folder with arc_easy/clean_easy_test.jsonl, which is not part of the project. Raises BenchmarkError
    where it has not so many.
    """
    source = data / "arc_easy" / "clean_easy_test.jsonl"
    if not source.is_file():
        raise BenchmarkError(f"{source} is not there. Name the folder of the public data with --data.")
    lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    if len(lines) < items:
        raise BenchmarkError(f"{source} has {len(lines)} items, and {items} were asked for")
    rows = folder / f"{task}.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines[:items]), encoding="utf-8")
    (folder / f"{task}.yaml").write_text(_ARC_EASY.format(task=task, rows=rows), encoding="utf-8")


_ARC_EASY = """\
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a head that ends in a colon gives a column of numbers, set to the right."""
    marks = ["--:" if head.endswith(":") else ":--" for head in heads]
    lines = [[head.removesuffix(":") for head in heads], marks, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def amount(value: float, unit: str) -> str:
    """Three figures or more: 0.42 s, 12.3 s, 1,402.0 s."""
    return f"{value:,.2f} {unit}" if abs(value) < 10 else f"{value:,.1f} {unit}"


def against(value: float, limit: float, unit: str) -> str:
    """Whether a value of which less is better is within its limit, and by how much."""
    return f"{'met' if value <= limit else 'missed'} by {amount(abs(limit - value), unit)}"


def ratio_row(what: str, peer: float, project: float, target: float) -> tuple[str, ...]:
    """How many times faster the project is, beside how many times it should be: a row of a table of seconds."""
    ratio = peer / project
    result = f"{'met' if ratio >= target else 'missed'} by {abs(ratio - target):.1f}"
    return what, f"{peer:,.2f}", f"{project:,.2f}", f"{ratio:.1f} times", f"at least {target:g} times", result


def print_comparison(title: str, day: str, peer: str, rows: Sequence[Sequence[str]]) -> None:
    """A title, the machine, and a table of rows as `ratio_row` makes them. peer: the head of its column."""
    from harness.pipeline.identity import provenance

    print(f"{title}:\n\n{machine_line(provenance(ROOT, os.environ), day)}\n")
    print(table(("figure", f"{peer}:", "project:", "ratio:", "target", "result"), rows))


def machine_line(provenance: Mapping[str, Any], day: str, environ: Mapping[str, str] = os.environ) -> str:
    """Processor, cores, memory, load, date, commit and versions: what a figure has to be read with."""
    machine, git = provenance["machine"], provenance["git"]
    versions = {"Python": provenance["python"], **provenance["versions"]}
    parts = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        day,
        f"commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else "no commit",
        ", ".join(f"{name} {versions[name]}" for name in ("Python", *_LIBRARIES) if name in versions),
    ]
    with contextlib.suppress(OSError):
        parts.append(f"load {os.getloadavg()[0]:.1f} at the end")
    threads = environ.get("OMP_NUM_THREADS")
    if threads:
        parts.append(f"OMP_NUM_THREADS={threads}")
    return "; ".join(parts)


if __name__ == "__main__":
    if sys.argv[1] == _SHAPE:
        _make_shape(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        _wrap(Path(sys.argv[1]), sys.argv[2:])
