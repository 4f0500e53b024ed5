"""Loading base models and adapters, and switching between the views of one loaded model."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from harness.engine.attention import BLOCK, IMPLEMENTATION
from harness.engine.layers import join_adapters, join_norms, unpack_weights
from harness.engine.memory import release_memory
from harness.errors import BaseModelError, ScoringError

__all__ = [
    "PLAIN_BATCHES",
    "LoadedModel",
    "choose_device",
    "load_base",
    "load_tokenizer",
    "takes_rows",
]

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

PLAIN_BATCHES = (
    "this model cannot compute shared prefixes once (sliding windows, recurrent layers, or an attention mask of its "
    "own): plain batches are computed instead, which is slower"
)


@dataclass(slots=True)
class LoadedModel:
    """A base model on a device, with or without one adapter attached; `close` gives the memory back.

    Handles are passed around, never the bare model: a failed test keeps its last traceback alive, and with it
    everything a frame names.
    """

    model: Any
    tokenizer: Any
    device: str
    has_adapter: bool = False

    @property
    def context_length(self) -> int:
        return int(self.model.config.max_position_embeddings)

    @contextlib.contextmanager
    def base_view(self) -> Iterator[Any]:
        """The model with its adapter, if any, switched off."""
        self.require_open()
        if not self.has_adapter:
            yield self.model
            return
        with self.model.disable_adapter():
            yield self.model

    @contextlib.contextmanager
    def adapter_view(self) -> Iterator[Any]:
        self.require_open()
        if not self.has_adapter:
            raise ScoringError("no adapter is attached to this model")
        yield self.model

    def attach(self, adapter: Path) -> None:
        """Put the adapter in `adapter` (a folder with adapter_model.safetensors) on the model.

        Raises ScoringError if a key of the file is not loaded or one of the model is not in the file: PEFT
        itself only warns, and would go on with a fresh adapter, which equals its base.
        """
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import safe_open

        self.require_open()
        weights = adapter / "adapter_model.safetensors"
        if not weights.is_file():
            raise ScoringError(f"{adapter}: adapter_model.safetensors is missing")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(self.model, str(adapter))
        with safe_open(weights, "pt") as file:
            stored = set(file.keys())
        expected = set(get_peft_model_state_dict(model))
        if stored != expected:
            model.unload()  # or the base would go on with fresh LoRA layers in it
            missing, unknown = sorted(expected - stored), sorted(stored - expected)
            raise ScoringError(
                f"{weights}: does not fit the model: {len(missing)} keys missing, {len(unknown)} unknown, "
                f"first {(missing or unknown)[0]}"
            )
        model.eval()
        join_adapters(model, self.device)
        self.model = model
        self.has_adapter = True

    def require_open(self) -> None:
        if self.model is None:
            raise ScoringError("this model handle is closed")

    def close(self) -> None:
        self.model = None
        gc.collect()
        release_memory()


def choose_device(wanted: str | None) -> str:
    """`wanted`, or the first GPU, or the CPU. Raises BaseModelError where the wanted device is absent."""
    if wanted is None or wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise BaseModelError(f"--harness-device: {wanted!r} is no device. Use cpu, cuda or cuda:0.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BaseModelError(f"--harness-device: {wanted} was asked for, and torch sees no GPU here.")
    if device.type not in ("cpu", "cuda"):
        raise BaseModelError(f"--harness-device: {wanted} is not supported. Use cpu, cuda or cuda:0.")
    return wanted


def quantization_config(quantization: Mapping[str, Any]) -> BitsAndBytesConfig | None:
    """The recipe's quantization block as transformers takes it; None where nothing is quantized."""
    if not (quantization.get("load_in_4bit") or quantization.get("load_in_8bit")):
        return None
    return BitsAndBytesConfig(**quantization)


def load_tokenizer(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(folder: Path, quantization: Mapping[str, Any], device: str) -> LoadedModel:
    """The base model in eval mode. Computes in bfloat16 unless bnb_4bit_compute_dtype says otherwise."""
    config = quantization_config(quantization)
    compute = str(quantization.get("bnb_4bit_compute_dtype", "bfloat16")).removeprefix("torch.")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, dtype=getattr(torch, compute), device_map=device
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise BaseModelError(f"{folder}: transformers cannot load this base model: {error}") from error
    model.eval()
    model.requires_grad_(False)  # an adapter is trained, never the base
    unpack_weights(model, device)
    join_norms(model, device)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(IMPLEMENTATION)
    return LoadedModel(model, load_tokenizer(folder), device)


def takes_rows(model: Any) -> bool:
    """Whether the model computes packed rows exactly: full attention in every layer, nothing recurrent.

    The check is by experiment, since configurations do not say it reliably: a sequence in a row must get the
    log-probabilities that it has alone. Where not, each sequence is computed by itself: slower, and right.
    """
    known = getattr(model, "_harness_takes_rows", None)
    if known is None:
        known = _row_trial(model)
        if not known and model.config._attn_implementation == IMPLEMENTATION:
            model.set_attn_implementation("sdpa")  # rows with one mask for all its tokens, where that does better
            known = _row_trial(model)
        model._harness_takes_rows = known
    return bool(known)


def _row_trial(model: Any) -> bool:
    from harness.engine.packing import TokenSequence, pack
    from harness.engine.scoring import batch_log_probs

    text = model.config.get_text_config()
    layers = getattr(text, "layer_types", None)
    windowed = any(kind != "full_attention" for kind in layers) if layers else getattr(text, "sliding_window", None)
    if windowed:
        return False  # these differ only beyond a window's length, which a short trial would not see
    device = next(model.parameters()).device
    size = min(int(text.vocab_size), 1000)
    prefix = tuple(t % size for t in range(1, 9))
    # Longer than a block of attention, so that a model is found out that takes a block's mask for the whole row's.
    suffixes = [tuple(t % size for t in range(start, start + BLOCK + 6)) for start in (20, 60)]
    ((row,),) = pack([TokenSequence(prefix, suffix) for suffix in suffixes], budget=1000)
    index, edges = row.members[-1]  # the first member of a row has nothing before it that could leak
    ((alone,),) = pack([TokenSequence(prefix, suffixes[index])], budget=1000)
    # The same tokens with plain causal attention and running positions: what a model computes that ignores
    # mask and positions. An exact model is far closer to `alone` than that, whatever its precision.
    ignored = replace(row, positions=list(range(len(row))), ends=[len(row)] * len(row))
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            (expected, _), (packed, _), (plain, _) = (
                batch_log_probs(model, [each], device)[0] for each in (alone, row, ignored)
            )
            exact = (packed[edges] - expected).abs().mean()
            wrong = (plain[edges] - expected).abs().mean()
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        model.train(training)
    return bool(exact < 0.15 * wrong)
