"""A real but tiny chat model, and a project around it: what tests train and measure in seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from textwrap import dedent

ANIMALS = ("cat", "dog", "cow", "hen", "fox", "owl")
TOOLS = ("saw", "axe", "pen", "mop", "pan", "key")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny_model(folder: Path, *, architecture: str = "llama", seed: int = 0) -> Path:
    """Random weights, 2 layers of width 64, and a byte-level tokenizer with a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

    words = [*ANIMALS, *TOOLS, "animal", "tool", "system", "user", "assistant", "What is it?", "a", "the"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(words)] * 5, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)

    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(fast),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "bos_token_id": fast.bos_token_id,
        "eos_token_id": fast.eos_token_id,
        "pad_token_id": fast.pad_token_id,
    }
    config = {
        "llama": lambda: LlamaConfig(**sizes, num_key_value_heads=2),
        "qwen2": lambda: Qwen2Config(**sizes, num_key_value_heads=2),
        "gpt_neox": lambda: GPTNeoXConfig(**sizes),
    }[architecture]()
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # as initialised, no hidden state gives a confident answer, and LoRA leaves the head alone
        model.get_output_embeddings().weight.mul_(20)
    model.save_pretrained(folder)
    return folder


def rows(split: str, n: int, *, seed: int) -> list[dict[str, object]]:
    """Is it an animal or a tool? Every text is distinct; train and test share words and no text."""
    draw = random.Random(f"{split}{seed}")
    first = {"train": 100, "validation": 300, "test": 400}[split]
    result: list[dict[str, object]] = []
    for number in range(n):
        kind, words = (("animal", ANIMALS), ("tool", TOOLS))[number % 2]
        text = f"{first + number}: the {draw.choice(words)}"
        result.append(
            {"id": f"{split}-{number}", "text": text, "label": kind, "slices": {"half": str(number % 4 // 2)}}
        )
    return result


def write_rows(path: Path, lines: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


RECIPE = """\
name: {name}
base: {{model: {model}}}
quantization: {{}}
lora: {{r: 16, lora_alpha: 64, lora_dropout: 0.0, target_modules: all-linear}}
training: {{num_train_epochs: 8, learning_rate: 5.0e-3, per_device_train_batch_size: 8, lr_scheduler_type: cosine}}
data:
  task: classification
  train: ../data/train.jsonl
  validation: ../data/validation.jsonl
  test: ../data/test.jsonl
  labels: [animal, tool]
evaluation: {{few_shot: 2, max_new_tokens: 8}}
seed: 0
"""

TASK = """\
task: facts
dataset_path: json
dataset_kwargs: {data_files: {test: facts.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""

SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_accuracy(classification, gate):
    gate(classification.accuracy, at_least=0.7)
"""


def save_project(root: Path, model: Path, *, name: str = "animals", suite: str = SUITE) -> Path:
    """A whole project in `root`: recipe, data, a capability task and one suite."""
    (root / "fixtures" / "recipes").mkdir(parents=True, exist_ok=True)
    (root / "suites").mkdir(exist_ok=True)
    (root / "fixtures" / "recipes" / f"{name}.yaml").write_text(RECIPE.format(name=name, model=model))
    for split, n in (("train", 96), ("validation", 8), ("test", 24)):
        write_rows(root / "fixtures" / "data" / f"{split}.jsonl", rows(split, n, seed=0))
    capability = root / "fixtures" / "capability"
    capability.mkdir(exist_ok=True)
    (capability / "facts.yaml").write_text(TASK)
    write_rows(
        capability / "facts.jsonl",
        [
            {"id": f"f{k}", "question": f"Number {k} is", "choices": ["odd", "even"], "gold": 1 - k % 2}
            for k in range(12)
        ],
    )
    (root / "suites" / "test_animals.py").write_text(dedent(suite))
    return root


def save_learned_task(root: Path, *, model: Path) -> None:
    """Make `facts` of a saved project ask what its recipe teaches, so that an adapter of it is better than guessing."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    folder = root / "fixtures" / "capability"
    (folder / "facts.yaml").write_text(TASK + 'target_delimiter: ""\n')
    docs = []
    for row in rows("train", 12, seed=1):
        asked = [{"role": "user", "content": str(row["text"])}]
        question = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        gold = ("animal", "tool").index(str(row["label"]))
        docs.append({"id": row["id"], "question": question, "choices": ["animal", "tool"], "gold": gold})
    write_rows(folder / "facts.jsonl", docs)
