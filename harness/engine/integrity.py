"""Whether an adapter is whole and does anything: what is checked before it is measured.

A broken adapter does not look broken: PEFT loads one that does not fit with a warning, a fresh one "forgets
nothing", and a model of NaN still gets a third of a three-way multiple choice right. Importing this loads no model
library; only `check_attached` needs one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.chat import completion_tokens, end_of_turn, prompt_tokens, refuse_too_long
from harness.engine.packing import TokenSequence, pack
from harness.errors import HarnessError
from harness.records import Example, IntegrityCheck

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.models import LoadedModel

__all__ = ["check_attached", "check_training", "not_attached", "probes"]

_PROBES = 4
# Of an expected answer: enough to see the adapter at work, few enough that a large vocabulary fits.
_ANSWER_TOKENS = 16
# Steps whose mean stands for an end of the training: a single batch may be an easy or a hard one.
_MOST_STEPS = 10


def probes(test: Sequence[Example]) -> tuple[Example, ...]:
    """A few examples, spread over the test set, that base and adapter are compared on."""
    return tuple(test[:: max(1, len(test) // _PROBES)][:_PROBES])


def check_training(manifest: Mapping[str, Any]) -> tuple[IntegrityCheck, ...]:
    """What the manifest says of the training: that it made all its steps, and that its loss fell.

    manifest: global_step, max_steps, and loss: (step, training loss) pairs. The loss fell if the mean of its last
    steps is below that of its first: of a fifth of the steps each, at most 10.
    """
    return _steps(manifest), _loss(manifest)


def _steps(manifest: Mapping[str, Any]) -> IntegrityCheck:
    name = "steps_complete"
    made, planned = manifest.get("global_step"), manifest.get("max_steps")
    if not isinstance(made, int) or not isinstance(planned, int):
        return IntegrityCheck(name, False, "the manifest does not say how many steps the training made")
    return IntegrityCheck(name, made == planned, f"training made {made:,} of {planned:,} steps")


def _loss(manifest: Mapping[str, Any]) -> IntegrityCheck:
    name = "loss_fell"
    try:
        values = [float(value) for _, value in manifest["loss"]]
    except (KeyError, TypeError, ValueError):
        return IntegrityCheck(name, False, "the manifest has no training loss")
    if len(values) < 2:
        return IntegrityCheck(name, False, f"the training loss of {len(values)} steps shows no fall")
    if not all(map(math.isfinite, values)):
        return IntegrityCheck(name, False, "the training loss is not finite at every step")
    steps = max(1, min(_MOST_STEPS, len(values) // 5))
    first, last = (sum(part) / steps for part in (values[:steps], values[-steps:]))
    over = "step" if steps == 1 else f"{steps} steps"
    shown = f"{last:.4g} over the last {over}, {first:.4g} over the first"
    if last < first:
        return IntegrityCheck(name, True, f"training loss {shown}")
    return IntegrityCheck(name, False, f"the training loss did not fall ({shown})")


def not_attached(error: HarnessError) -> IntegrityCheck:
    """The check that failed where `LoadedModel.attach` refused the adapter."""
    return IntegrityCheck("keys_loaded", False, str(error).rstrip("."))


def check_attached(loaded: LoadedModel, adapter: Path, examples: Sequence[Example]) -> tuple[IntegrityCheck, ...]:
    """Checks of the adapter on `loaded`, which `LoadedModel.attach` took from the folder `adapter`.

    All its keys are loaded (attach compared them), some B is not zero, all weights are finite, tokenizer and chat
    template are the base's, and on the expected answers to `examples` (at least one) the logits of both views are
    finite and differ by more than two passes of the base do. Raises what asking the examples raises: DataError for
    one longer than the context, ScoringError without a chat template or memory.
    """
    return (*_weights(loaded), _tokenizer(loaded.tokenizer, adapter), *_views(loaded, examples))


def _weights(loaded: LoadedModel) -> list[IntegrityCheck]:
    import torch
    from peft import get_peft_model_state_dict

    weights: dict[str, Tensor] = get_peft_model_state_dict(loaded.model)
    ups = [weight for name, weight in weights.items() if "lora_B" in name or "lora_embedding_B" in name]
    working = sum(bool(weight.any()) for weight in ups)
    broken = [name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())]
    unlike_zero = f"{working} of {len(ups)} B matrices are not zero"
    finite = f"all {len(weights)} tensors are finite"
    if not working:
        unlike_zero = f"all {len(ups)} B matrices are zero, so the adapter is one before training and equals its base"
    if broken:
        finite = f"{len(broken)} of {len(weights)} tensors hold values that are not finite, first {min(broken)}"
    return [
        IntegrityCheck("keys_loaded", True, f"{len(weights)} keys, none missing and none unknown"),
        IntegrityCheck("weights_not_zero", working > 0, unlike_zero),
        IntegrityCheck("weights_finite", not broken, finite),
    ]


def _tokenizer(base: Any, adapter: Path) -> IntegrityCheck:
    from transformers import AutoTokenizer

    name = "tokenizer_unchanged"
    try:
        own = AutoTokenizer.from_pretrained(adapter, trust_remote_code=False)
        content = _tokenizer_content(own)
    except Exception as error:  # transformers and tokenizers raise all kinds for files that are missing or damaged
        found = " ".join(str(error).split())[:200]
        return IntegrityCheck(name, False, f"the adapter's tokenizer cannot be read ({type(error).__name__}: {found})")
    expected = _tokenizer_content(base)
    different = [part for part in expected if content[part] != expected[part]]
    if not different:
        return IntegrityCheck(name, True, "tokenizer and chat template are the base's")
    verb = "differs" if len(different) == 1 else "differ"
    return IntegrityCheck(
        name,
        False,
        f"the {' and the '.join(different)} in the adapter's folder {verb} from the base's: it was trained on other "
        "tokens than it is asked with",
    )


def _tokenizer_content(tokenizer: Any) -> dict[str, Any]:
    """What makes tokens of a chat; how batches are padded and truncated does not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    if backend is not None:
        rules = {part: rule for part, rule in rules.items() if part not in ("padding", "truncation")}
    ends = (tokenizer.bos_token, tokenizer.eos_token)
    return {"tokenizer": (rules, ends), "chat template": tokenizer.chat_template}


def _views(loaded: LoadedModel, examples: Sequence[Example]) -> list[IntegrityCheck]:
    """Compares the views' logits where an answer to an example is predicted: what every measure looks at."""
    from harness.engine.models import takes_rows

    sequences = _sequences(loaded, examples)
    with loaded.base_view() as model:
        takes_rows(model)  # settles which attention the model computes with
        first = _logits(loaded, model, sequences[:1])  # how far two passes of one view are apart
        base = _logits(loaded, model, sequences)
    with loaded.adapter_view() as model:
        own = _logits(loaded, model, sequences)
    where = f"{len(examples)} test {'example' if len(examples) == 1 else 'examples'}"
    broken = [view for view, found in (("base", base), ("adapter", own)) if not _all_finite(found)]
    if broken:
        views = " and ".join(f"the {view}" for view in broken)
        return [
            IntegrityCheck("logits_finite", False, f"the logits of {views} are not finite on {where}"),
            IntegrityCheck("logits_changed", False, "what the adapter changes is not known without finite logits"),
        ]
    noise, change = _largest_difference(first, base[:1]), _largest_difference(own, base)
    finite = IntegrityCheck("logits_finite", True, f"those of both views on {where}")
    if change > noise:
        found = f"by up to {change:.3g} on {where}"
    else:
        found = f"switching the adapter on changes no logit on {where}"
        found += f" beyond the {noise:.3g} between two passes of the base" if noise else ""
    return [finite, IntegrityCheck("logits_changed", change > noise, found)]


def _sequences(loaded: LoadedModel, examples: Sequence[Example]) -> list[TokenSequence]:
    tokenizer = loaded.tokenizer
    end = end_of_turn(tokenizer)
    sequences = [
        TokenSequence(
            prompt_tokens(tokenizer, example.messages),
            completion_tokens(tokenizer, example.expected, end)[:_ANSWER_TOKENS],
        )
        for example in examples
    ]
    refuse_too_long(examples, [len(s.inputs) for s in sequences], loaded.context_length, "the model's context")
    return sequences


def _logits(loaded: LoadedModel, model: Any, sequences: Sequence[TokenSequence]) -> list[Tensor]:
    """For each sequence (P, V) float32, a line for each token that predicts."""
    import torch

    from harness.engine.attention import IMPLEMENTATION
    from harness.engine.memory import halving
    from harness.engine.scoring import batch_tensors

    blocks = getattr(model.config, "_attn_implementation", None) == IMPLEMENTATION
    found: list[Tensor] = []

    def attempt(_size: int) -> None:
        found.clear()
        for sequence in sequences:  # one by one: the same shapes, and so the same rounding, for both views
            ((row,),) = pack([sequence], budget=len(sequence.inputs))
            arguments = batch_tensors([row], loaded.device, blocks=blocks)
            keep = torch.tensor(row.predictors, device=loaded.device)
            with torch.inference_mode():
                found.append(model(**arguments, logits_to_keep=keep, use_cache=False).logits[0].float())

    longest = max(len(sequence.inputs) for sequence in sequences)
    halving(attempt, longest, smallest=longest, what="tokens at once")
    return found


def _all_finite(logits: Sequence[Tensor]) -> bool:
    return all(bool(line.isfinite().all()) for line in logits)


def _largest_difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))
