"""What the harness adds to the libraries' arguments: defaults, ranges, choices, renames, reserved keys.

Tables only; `blocks` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.recipes.arguments import Block

__all__ = ["CHOICES", "DEFAULTS", "RANGES", "RENAMED", "RESERVED", "RESERVED_PREFIXES", "Range"]

# What a key has that neither the recipe nor a parent names; every other key has the library's default.
DEFAULTS: Mapping[Block, Mapping[str, Any]] = {
    "quantization": {},
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"},
    "training": {"num_train_epochs": 1.0},
}


class Range(NamedTuple):
    """low <= number <= high; an open end excludes its bound. advice: a sentence, or nothing."""

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    advice: str = ""

    def admits(self, number: float) -> bool:
        if math.isnan(number):
            return False
        if self.low is not None and (number < self.low or (number == self.low and self.low_open)):
            return False
        return self.high is None or number < self.high or (number == self.high and not self.high_open)

    def __str__(self) -> str:
        ends = []
        if self.low is not None:
            ends.append(f"{'above' if self.low_open else 'at least'} {self.low:g}")
        if self.high is not None:
            ends.append(f"{'below' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(ends)


_AT_LEAST_1 = Range(low=1)
_NOT_NEGATIVE = Range(low=0)
_SHARE = Range(low=0, high=1, high_open=True)

RANGES: Mapping[Block, Mapping[str, Range]] = {
    "quantization": {"llm_int8_threshold": _NOT_NEGATIVE},
    "lora": {
        "r": Range(low=1, advice="Common values are 8 to 64."),
        "lora_alpha": Range(low=0, low_open=True, advice="Common values are r to twice r."),
        "lora_dropout": _SHARE._replace(advice="Common values are 0 to 0.1."),
        "qalora_group_size": _AT_LEAST_1,
    },
    "training": {
        "num_train_epochs": Range(low=0, low_open=True, advice="Common values are 1 to 5."),
        "learning_rate": Range(low=0, high=1, low_open=True, advice="Common values are 1e-5 to 1e-3."),
        "per_device_train_batch_size": Range(low=1, advice="Common values are 1 to 32."),
        "gradient_accumulation_steps": _AT_LEAST_1,
        "warmup_steps": Range(low=0, advice="A value below 1 is a share of all steps."),
        "weight_decay": _NOT_NEGATIVE,
        "adam_beta1": _SHARE,
        "adam_beta2": _SHARE,
        "adam_epsilon": Range(low=0, low_open=True),
        "max_grad_norm": _NOT_NEGATIVE,
        "max_length": Range(low=2, advice="Use null for no limit but the model's own."),
        "dataloader_num_workers": _NOT_NEGATIVE,
    },
}

# Narrower than the library, or not written in its source in a form that can be read without importing it.
# (values, why): texts and booleans that are allowed; why is a sentence, or nothing.
_CHANGES_BASE = "Others change the base's weights or need them unquantized; the base is measured beside the adapter."
CHOICES: Mapping[Block, Mapping[str, tuple[tuple[str | bool, ...], str]]] = {
    "quantization": {
        "bnb_4bit_quant_type": (("nf4", "fp4"), ""),
        "bnb_4bit_compute_dtype": (("float32", "bfloat16", "float16"), ""),
        "bnb_4bit_quant_storage": (("uint8", "int8", "float16", "bfloat16", "float32", "float64"), ""),
    },
    "lora": {
        "bias": (("none",), "Biases stay when the adapter is off, and then the base is not the base."),
        "init_lora_weights": ((True, False, "gaussian", "orthogonal"), _CHANGES_BASE),
    },
    "training": {
        # The others need columns of token lengths, which the harness' batches of packed rows do not have.
        "train_sampling_strategy": (("random", "sequential"), ""),
    },
}

RENAMED: Mapping[Block, Mapping[str, str]] = {
    "quantization": {
        "4bit": "load_in_4bit",
        "8bit": "load_in_8bit",
        "bnb_4bit_type": "bnb_4bit_quant_type",
        "compute_dtype": "bnb_4bit_compute_dtype",
        "double_quant": "bnb_4bit_use_double_quant",
        "load_4bit": "load_in_4bit",
        "load_8bit": "load_in_8bit",
        "quant_type": "bnb_4bit_quant_type",
        "use_double_quant": "bnb_4bit_use_double_quant",
        "use_nested_quant": "bnb_4bit_use_double_quant",
    },
    "lora": {
        "alpha": "lora_alpha",
        "dropout": "lora_dropout",
        "dora": "use_dora",
        "lora_bias_type": "bias",
        "lora_r": "r",
        "lora_rank": "r",
        "lora_target_modules": "target_modules",
        "modules": "target_modules",
        "rank": "r",
        "rslora": "use_rslora",
        "target_module": "target_modules",
    },
    "training": {
        "batch_size": "per_device_train_batch_size",
        "epochs": "num_train_epochs",
        "evaluation_strategy": "eval_strategy",
        "gradient_accumulation": "gradient_accumulation_steps",
        "group_by_length": "train_sampling_strategy",
        "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
        "learning_rate_scheduler": "lr_scheduler_type",
        "lr": "learning_rate",
        "lr_scheduler": "lr_scheduler_type",
        "max_sequence_length": "max_length",
        "max_seq_length": "max_length",
        "no_cuda": "use_cpu",
        "num_epochs": "num_train_epochs",
        "optimizer": "optim",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "scheduler": "lr_scheduler_type",
        "train_batch_size": "per_device_train_batch_size",
        "warmup_ratio": "warmup_steps",
    },
}

_STORE = "the harness keeps adapters in its own store (--harness-store)"
_REPORT = "the harness writes its own log and report"
_RESUME = "the harness makes checkpoints and goes on from them itself"
_EVALUATION = "the harness computes the validation loss itself, after each epoch"
_LAST = "the adapter after the last step is the one that is measured"
_LAYOUT = "the harness lays examples out in batches itself"
_PREPARES = "the harness prepares the data itself, from the files under data"
_TOKENIZER = "the tokenizer and the chat template come with base.model"
_ONE_PROCESS = "the harness trains in one process on one device"
_COMPLETION = "the loss is always on the completion only"
_LOSS = "the loss is always the mean negative log-likelihood of the completion's tokens"
_SEED = "the recipe's top-level seed sets it; use that"
_LOADS = "the harness loads the base model itself, as base and quantization say"
_PEFT = "the harness sets it when it makes the adapter"

# Key -> why it is not a recipe's to set, and what decides instead.
RESERVED: Mapping[Block, Mapping[str, str]] = {
    "quantization": {
        "quant_method": "quantization is always by bitsandbytes",
    },
    "lora": {
        "auto_mapping": _PEFT,
        "base_model_name_or_path": "base.model names the base model; use that",
        "inference_mode": _PEFT,
        "layer_replication": "it changes the base's layers, and the base is measured beside the adapter",
        "loftq_config": "LoftQ changes the base's weights, and the base is measured beside the adapter",
        "peft_type": "it is always LORA",
        "peft_version": _PEFT,
        "revision": "base.revision names the revision; use that",
        "task_type": "it is always CAUSAL_LM",
    },
    "training": {
        "assistant_only_loss": _COMPLETION,
        "auto_find_batch_size": "the batch size changes the adapter; set one that fits",
        "average_tokens_across_devices": _ONE_PROCESS,
        "batch_eval_metrics": _EVALUATION,
        "bf16_full_eval": _EVALUATION,
        "chat_template_path": _TOKENIZER,
        "completion_only_loss": _COMPLETION,
        "data_seed": _SEED,
        "dataloader_pin_memory": _LAYOUT,
        "dataset_kwargs": _PREPARES,
        "dataset_num_proc": _PREPARES,
        "dataset_text_field": _PREPARES,
        "deepspeed": _ONE_PROCESS,
        "disable_tqdm": "the harness shows the progress itself",
        "do_eval": _EVALUATION,
        "do_predict": "the suites decide what is measured",
        "do_train": "training is all a recipe is for",
        "enable_jit_checkpoint": _RESUME,
        "eos_token": _TOKENIZER,
        "fp16_full_eval": _EVALUATION,
        "greater_is_better": _LAST,
        "ignore_data_skip": _RESUME,
        "include_for_metrics": _EVALUATION,
        "include_num_input_tokens_seen": "the harness counts tokens itself",
        "label_names": _PREPARES,
        "label_smoothing_factor": _LOSS,
        "length_column_name": _PREPARES,
        "load_best_model_at_end": _LAST,
        "liger_kernel_config": _LOADS,
        "local_rank": _ONE_PROCESS,
        "loss_type": _LOSS,
        "metric_for_best_model": _LAST,
        "model_init_kwargs": _LOADS,
        "neftune_noise_alpha": "its noise depends on the length of a row, and the harness packs rows",
        "output_dir": _STORE,
        "overwrite_output_dir": _STORE,
        "packing": _LAYOUT,
        "packing_strategy": _LAYOUT,
        "pad_token": _TOKENIZER,
        "pad_to_multiple_of": _LAYOUT,
        "padding_free": _LAYOUT,
        "parallelism_config": _ONE_PROCESS,
        "per_device_eval_batch_size": _EVALUATION,
        "prediction_loss_only": _EVALUATION,
        "project": _REPORT,
        "remove_unused_columns": _PREPARES,
        "report_to": _REPORT,
        "restore_callback_states_from_checkpoint": _RESUME,
        "resume_from_checkpoint": _RESUME,
        "router_aux_loss_coef": _LOSS,
        "run_name": _REPORT,
        "seed": _SEED,
        "tokenizer": _TOKENIZER,
        "truncation_mode": "an example that is too long is refused, never truncated",
        "trust_remote_code": _LOADS,
        "use_cpu": "the device is chosen with --harness-device",
        "use_liger_kernel": "it is deprecated in trl, and the harness loads the base model itself",
    },
}
RESERVED_PREFIXES: Mapping[Block, Mapping[str, str]] = {
    "quantization": {"_": "it is internal to transformers"},
    "lora": {"_": "it is internal to peft"},
    "training": {
        "_": "it is internal to trl",
        "ddp_": _ONE_PROCESS,
        "eval_": _EVALUATION,
        "fsdp": _ONE_PROCESS,
        "hub_": _STORE,
        "log_": _REPORT,
        "logging_": _REPORT,
        "push_to_hub": _STORE,
        "save_": _STORE,
        "trackio_": _REPORT,
    },
}
