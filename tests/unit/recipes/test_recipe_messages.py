"""Every message that a recipe with a wrong value gets, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.recipes import Recipe, load_recipe
from harness.recipes.arguments import BLOCKS, Block
from harness.recipes.blocks import allowed_arguments, normalize, shown
from harness.recipes.rules import RANGES, RENAMED, RESERVED, Range

BNB = f"BitsAndBytesConfig (transformers {version('transformers')})"
LORA = f"LoraConfig (peft {version('peft')})"
SFT = f"SFTConfig (trl {version('trl')})"

Problems = Callable[..., list[str]]
KEYS = "name, extends, description, base, quantization, lora, training, data, evaluation, seed, seeds"

BLOCK_CASES = [
    # out of range
    ("lora: {r: 0}", "lora.r must be at least 1, got 0. Common values are 8 to 64."),
    ("lora: {lora_alpha: 0}", "lora.lora_alpha must be above 0, got 0. Common values are r to twice r."),
    (
        "lora: {lora_dropout: 1}",
        "lora.lora_dropout must be at least 0 and below 1, got 1. Common values are 0 to 0.1.",
    ),
    (
        "training: {learning_rate: 5}",
        "training.learning_rate must be above 0 and at most 1, got 5. Common values are 1e-5 to 1e-3.",
    ),
    (
        "training: {num_train_epochs: 0}",
        "training.num_train_epochs must be above 0, got 0. Common values are 1 to 5.",
    ),
    (
        "training: {per_device_train_batch_size: 0}",
        "training.per_device_train_batch_size must be at least 1, got 0. Common values are 1 to 32.",
    ),
    (
        "training: {gradient_accumulation_steps: 0}",
        "training.gradient_accumulation_steps must be at least 1, got 0.",
    ),
    (
        "training: {warmup_steps: -1}",
        "training.warmup_steps must be at least 0, got -1. A value below 1 is a share of all steps.",
    ),
    (
        "training: {max_steps: 0}",
        "training.max_steps must be at least 1, or -1 for no limit, got 0. Leave it out to count epochs.",
    ),
    (
        "training: {max_length: 1}",
        "training.max_length must be at least 2, got 1. Use null for no limit but the model's own.",
    ),
    # wrong type
    (
        'lora: {r: "16"}',
        'lora.r must be a whole number, got "16". Numbers, true and false stand without quotes.',
    ),
    ("lora: {r: 16.0}", "lora.r must be a whole number, got 16.0."),
    ("lora: {r: true}", "lora.r must be a whole number, got true."),
    ("lora: {r: null}", "lora.r must be a whole number, got null."),
    (
        "lora: {lora_dropout: no}",
        'lora.lora_dropout must be a number, got "no". Numbers, true and false stand without quotes.',
    ),
    (
        "lora: {target_modules: [q_proj, 3]}",
        'lora.target_modules must be a text or a list of texts or null, got ["q_proj", 3].',
    ),
    (
        "lora: {layers_to_transform: [1, true]}",
        "lora.layers_to_transform must be a whole number or a list of whole numbers or null, got [1, true].",
    ),
    ("lora: {rank_pattern: 3}", "lora.rank_pattern must be a mapping or null, got 3."),
    (
        "training: {bf16: yes}",
        'training.bf16 must be true or false or null, got "yes". Numbers, true and false stand without quotes.',
    ),
    (
        "quantization: {load_in_4bit: 1}",
        "quantization.load_in_4bit must be true or false, got 1.",
    ),
    # not among the choices
    (
        "training: {lr_scheduler_type: cosin}",
        "training.lr_scheduler_type must be one of linear, cosine, cosine_with_restarts, polynomial, constant, "
        "constant_with_warmup, inverse_sqrt, reduce_lr_on_plateau, cosine_with_min_lr, cosine_warmup_with_min_lr, "
        'warmup_stable_decay, greedy, got "cosin". Did you mean cosine?',
    ),
    (
        "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf8}",
        'quantization.bnb_4bit_quant_type must be one of nf4, fp4, got "nf8". Did you mean nf4?',
    ),
    (
        "quantization: {load_in_4bit: true, bnb_4bit_compute_dtype: int8}",
        'quantization.bnb_4bit_compute_dtype must be one of float32, bfloat16, float16, got "int8".',
    ),
    (
        "lora: {bias: all}",
        'lora.bias must be none, got "all". Biases stay when the adapter is off, and then the base is not the base.',
    ),
    (
        "lora: {init_lora_weights: pissa}",
        'lora.init_lora_weights must be one of true, false, gaussian, orthogonal, got "pissa". Others change the '
        "base's weights or need them unquantized; the base is measured beside the adapter.",
    ),
    (
        "lora: {init_lora_weights: 1}",
        "lora.init_lora_weights must be one of true, false, gaussian, orthogonal, got 1. Others change the "
        "base's weights or need them unquantized; the base is measured beside the adapter.",
    ),
    # not a key
    ("lora: {bais: none}", f"lora.bais is not a key of {LORA}. Did you mean bias?"),
    ("lora: {zzz: 1}", f"lora.zzz is not a key of {LORA}. Remove it, or look it up in docs/recipes.md."),
    ("lora: {rank: 8}", f"lora.rank is not a key of {LORA}. Use lora.r."),
    ("lora: {alpha: 8}", f"lora.alpha is not a key of {LORA}. Use lora.lora_alpha."),
    ("lora: {lr: 1e-3}", f"lora.lr is not a key of {LORA}. Use training.learning_rate."),
    (
        "lora: {learning_rate: 1e-3}",
        f"lora.learning_rate is not a key of {LORA}. It belongs in training: move it to training.learning_rate.",
    ),
    (
        "quantization: {load_in_4bits: true}",
        f"quantization.load_in_4bits is not a key of {BNB}. Did you mean load_in_4bit?",
    ),
    (
        "training: {max_seq_length: 9}",
        f"training.max_seq_length is not a key of {SFT}. Use training.max_length.",
    ),
    (
        "training: {warmup_ratio: 0.1}",
        f"training.warmup_ratio is not a key of {SFT}. Use training.warmup_steps. "
        "A value below 1 is a share of all steps.",
    ),
    (
        "training: {gradient_checkpointing_kwargs: {}}",
        f"training.gradient_checkpointing_kwargs is not a key of {SFT}. Use training.activation_checkpointing_kwargs.",
    ),
    (
        "training: {evaluation_strategy: epoch}",
        "training.evaluation_strategy is called eval_strategy now, and cannot be set in a recipe: the harness "
        "computes the validation loss itself, after each epoch. Remove it.",
    ),
    # reserved
    (
        "training: {output_dir: x}",
        "training.output_dir cannot be set in a recipe: the harness keeps adapters in its own store "
        "(--harness-store). Remove it.",
    ),
    (
        "training: {seed: 1}",
        "training.seed cannot be set in a recipe: the recipe's top-level seed sets it; use that. Remove it.",
    ),
    (
        "training: {save_steps: 5}",
        "training.save_steps cannot be set in a recipe: the harness keeps adapters in its own store "
        "(--harness-store). Remove it.",
    ),
    (
        "lora: {task_type: SEQ_CLS}",
        "lora.task_type cannot be set in a recipe: it is always CAUSAL_LM. Remove it.",
    ),
    (
        "quantization: {_load_in_4bit: true}",
        "quantization._load_in_4bit cannot be set in a recipe: it is internal to transformers. Remove it.",
    ),
    (
        "lora: {eva_config: {}}",
        "lora.eva_config takes a Python object, which a recipe cannot give. Remove it.",
    ),
    # together
    (
        "quantization: {load_in_4bit: true, load_in_8bit: true}",
        "quantization.load_in_8bit and load_in_4bit are both true. Keep one.",
    ),
    (
        "quantization: {bnb_4bit_quant_type: nf4}",
        "quantization.bnb_4bit_quant_type has no effect without load_in_4bit: true. Add that, or remove it.",
    ),
    (
        "quantization: {load_in_8bit: true, bnb_4bit_use_double_quant: true}",
        "quantization.bnb_4bit_use_double_quant has no effect without load_in_4bit: true. Add that, or remove it.",
    ),
    (
        "quantization: {llm_int8_threshold: 5}",
        "quantization.llm_int8_threshold has no effect without load_in_8bit: true. Add that, or remove it.",
    ),
]


@pytest.mark.parametrize(("text", "message"), BLOCK_CASES)
def test_block(problems: Problems, text: str, message: str) -> None:
    assert problems(text) == [f"example.yaml: {message}"]


def test_a_long_list_of_choices_is_cut(problems: Problems) -> None:
    (line,) = problems("training: {optim: adam}")
    assert line.startswith("example.yaml: training.optim must be one of adamw_torch, adamw_torch_fused, ")
    assert line.endswith(' in all), got "adam". Did you mean adamw_torch?')


def test_a_deprecated_key(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every deprecated key of the installed versions is reserved or renamed as well, so one is made free here.
    remaining = {key: why for key, why in RESERVED["training"].items() if key != "pad_token"}
    monkeypatch.setattr("harness.recipes.rules.RESERVED", {**RESERVED, "training": remaining})
    assert problems("training: {pad_token: x}") == [
        f"example.yaml: training.pad_token is deprecated in {SFT}. Remove it."
    ]


@pytest.mark.parametrize(
    ("block", "key"), [(block, key) for block in BLOCKS for key in (*RESERVED[block], *RENAMED[block])]
)
def test_reserved_and_renamed_keys_are_refused(block: Block, key: str) -> None:
    _, (problem, *_) = normalize(block, {key: None})
    assert problem.path == (block, key)
    assert "Remove it." in problem.text or "Use " in problem.text


@pytest.mark.parametrize(
    "key",
    [
        "eval_strategy", "eval_steps", "save_strategy", "logging_steps", "log_level", "push_to_hub", "hub_model_id",
        "report_to", "data_seed", "do_eval", "resume_from_checkpoint", "packing", "dataset_text_field",
        "completion_only_loss", "assistant_only_loss", "fsdp", "fsdp_config", "ddp_backend", "deepspeed",
        "save_safetensors", "trackio_space_id", "loss_type", "label_smoothing_factor",
    ],
)  # fmt: skip
def test_what_the_harness_decides_is_not_settable(key: str) -> None:
    assert key not in allowed_arguments("training")
    _, problems = normalize("training", {key: None})
    assert "cannot be set in a recipe: " in problems[0].text


TOP_CASES = [
    ("sead: 3", "sead is not a key of a recipe. Did you mean seed?"),
    ("zzz: 3", f"zzz is not a key of a recipe. The keys are {KEYS}."),
    ("source: x", f"source is not a key of a recipe. The keys are {KEYS}."),
    ("model: x", "model is not a key of a recipe. Did you mean base.model?"),
    ("training_args: {}", "training_args is not a key of a recipe. Did you mean training?"),
    ("labels: [a]", "labels is not a key of a recipe. Did you mean data.labels?"),
    ("seed: -1", "seed must be at least 0, got -1."),
    ("seed: 4294967296", "seed must be below 4294967296, got 4294967296."),
    ("seed: one", 'seed must be a whole number, got "one".'),
    ("seed: 1.5", "seed must be a whole number, got 1.5."),
    ("seed: true", "seed must be a whole number, got true."),
    ("description: 3", "description must be a text, got 3. Put it in quotes."),
    ("lora: 3", "lora must be a mapping, lines of the form key: value, got 3."),
    ("lora:", "lora must be a mapping, lines of the form key: value, got null."),
    ("evaluation: []", "evaluation must be a mapping, lines of the form key: value, got []."),
    ("evaluation: {few_shot: -1}", "evaluation.few_shot must be at least 0, got -1."),
    ("evaluation: {max_new_tokens: 0}", "evaluation.max_new_tokens must be at least 1, got 0."),
    (
        "evaluation: {few_shots: 1}",
        "evaluation.few_shots is not a key of evaluation. Did you mean few_shot?",
    ),
    (
        "evaluation: {capability: 3}",
        "evaluation.capability must be the path of a file, as a text, got 3.",
    ),
    (
        "evaluation: {zzz: 1}",
        "evaluation.zzz is not a key of evaluation. The keys are few_shot, max_new_tokens, capability.",
    ),
]


@pytest.mark.parametrize(("text", "message"), TOP_CASES)
def test_top_level(problems: Problems, text: str, message: str) -> None:
    assert problems(text) == [f"example.yaml: {message}"]


def data(task: str = "generation", extra: str = "") -> str:
    return (
        "name: example\nbase: {model: m}\ndata:\n"
        f"  task: {task}\n  train: a.jsonl\n  validation: b.jsonl\n  test: c.jsonl\n{extra}"
    )


DATA_CASES = [
    (
        data("clasification"),
        'data.task must be classification, generation or chat, got "clasification". Did you mean classification?',
    ),
    (data("3"), "data.task must be classification, generation or chat, got 3."),
    (data("classification"), "data.labels must list at least 2 labels for the task classification, got 0."),
    (
        data("classification", "  labels: [a]\n"),
        "data.labels must list at least 2 labels for the task classification, got 1.",
    ),
    (
        data(extra="  labels: [a, b]\n"),
        "data.labels is for the task classification only, and data.task is generation. Remove it.",
    ),
    (
        data("classification", "  labels: [a, b, a]\n"),
        'data.labels must be distinct, got "a" twice. Remove one.',
    ),
    (
        data("classification", "  labels: [a, ' b']\n"),
        'data.labels must be texts without space around them, got " b".',
    ),
    (
        data("classification", "  labels: [a, true]\n"),
        "data.labels[1] must be a text, got true. Put it in quotes.",
    ),
    (data("classification", "  labels: a\n"), 'data.labels must be a list of texts, got "a".'),
    (data(extra="  system: ''\n"), "data.system must not be empty."),
    (data(extra="  trian: x\n"), "data.trian is not a key of data. Did you mean train?"),
    (data(extra="  eval: x\n"), "data.eval is not a key of data. Did you mean data.validation?"),
    (
        data().replace("train: a.jsonl", "train: 3"),
        "data.train must be the path of a file, as a text, got 3.",
    ),
    (
        data().replace("train: a.jsonl", "train: ''"),
        'data.train must be the path of a file, as a text, got "".',
    ),
    (
        data().replace("  test: c.jsonl\n", ""),
        "data.test is missing. Add it: a JSON Lines file that the suites measure on.",
    ),
    (
        data().replace("  task: generation\n", ""),
        "data.task is missing. Add it: how the examples are written.",
    ),
    (
        data().replace("base: {model: m}\n", "base: {}\n"),
        "base.model is missing. Add it: smollm2-135m-instruct, a Hugging Face id, or a path that starts with "
        "./, ../ or /.",
    ),
    (data().replace("base: {model: m}\n", ""), "base is missing. Add it."),
    (
        data().replace("base: {model: m}\n", "base: m\n"),
        'base must be a mapping, lines of the form key: value, got "m".',
    ),
    (data().replace("{model: m}", "{model: 3}"), "base.model must be a text, got 3. Put it in quotes."),
    (data().replace("{model: m}", "{model: ''}"), "base.model must not be empty."),
    (
        data().replace("{model: m}", "{model: m, revison: x}"),
        "base.revison is not a key of base. Did you mean revision?",
    ),
    (
        data().replace("name: example\n", ""),
        "name is missing. Add it: the name of the file without .yaml: small letters, digits, _.",
    ),
    (data().replace("name: example", "name: other"), 'name must be the file\'s name, example, got "other".'),
]


@pytest.mark.parametrize(("text", "message"), DATA_CASES)
def test_sections(problems: Problems, text: str, message: str) -> None:
    assert problems(text, complete=False) == [f"example.yaml: {message}"]


def test_name_with_other_characters(problems: Problems) -> None:
    text = data().replace("name: example", "name: My-Recipe")
    assert problems(text, "My-Recipe", complete=False) == [
        'My-Recipe.yaml: name must be of small letters, digits and _ only, got "My-Recipe".'
    ]


def test_every_problem_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    lines = problems(
        "training: {learning_rate: 5, max_seq_length: 3}\nseed: -1\nzzz: 1\nlora: {r: 0, bais: 1, lora_alpha: x}\n"
    )
    assert [line.split()[1] for line in lines] == [
        "training.learning_rate", "training.max_seq_length", "seed", "zzz", "lora.r", "lora.bais", "lora.lora_alpha",
    ]  # fmt: skip


def test_long_values_are_cut() -> None:
    assert shown("x" * 100) == '"' + "x" * 56 + "..."
    assert len(shown(list(range(100)))) == 60


def test_a_recipe_made_in_python_is_checked_as_well(write: Callable[..., Path]) -> None:
    recipe = load_recipe(write(""))
    with pytest.raises(ValidationError, match=r"r must be at least 1, got 0\. Common values are 8 to 64\."):
        Recipe.model_validate({**recipe.model_dump(), "lora": {"r": 0}})
    with pytest.raises(ValidationError, match="learning_rate must be above 0 and at most 1"):
        Recipe.model_validate({**recipe.model_dump(), "training": {"learning_rate": float("nan")}})


def test_a_recipe_is_frozen(write: Callable[..., Path]) -> None:
    recipe = load_recipe(write(""))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1


@given(
    number=st.floats(allow_nan=False),
    low=st.floats(-10, 10),
    width=st.floats(0.1, 10),
    low_open=st.booleans(),
    high_open=st.booleans(),
)
def test_range_is_the_interval_it_says(
    number: float, low: float, width: float, low_open: bool, high_open: bool
) -> None:
    high = low + width
    above = number > low if low_open else number >= low
    below = number < high if high_open else number <= high
    assert Range(low, high, low_open, high_open).admits(number) == (above and below)


@pytest.mark.parametrize("block", BLOCKS)
def test_normalizing_again_changes_nothing(block: Block) -> None:
    given_values = {
        "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "lora": {"r": 4, "target_modules": ["q_proj"]},
        "training": {"num_train_epochs": 2, "max_steps": -1, "optim": "sgd"},
    }[block]
    once, problems = normalize(block, given_values)
    assert problems == []
    assert normalize(block, once) == (once, [])
    assert list(once) == sorted(once)


def test_every_range_has_a_key_that_takes_numbers() -> None:
    for block in BLOCKS:
        for key in RANGES[block]:
            assert allowed_arguments(block)[key].kinds & {"int", "float"}, (block, key)
