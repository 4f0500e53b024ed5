"""Greedy answers in batches sorted by length, the beginning that all prompts share read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from harness.engine.chat import end_of_turn, prompt_tokens, refuse_too_long
from harness.engine.head import prepare_head
from harness.engine.memory import answers_at_once, halving
from harness.engine.prompts import SharedPrompt, kept_tokens, prompt_tensors, shared_length
from harness.records import Example, Outputs

__all__ = ["generate_answers", "stop_ids"]

# A line that has ended leaves the batch only with many others: each time copies the cache of those that stay.
_KEPT_SHARE = 0.75


def generate_answers(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    view: str,
    max_new_tokens: int,
    context_length: int,
    device: str,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
    answered: Callable[[str, str, bool], None] | None = None,
) -> Outputs:
    """What `model` answers to each example's messages; deterministic (greedy).

    An answer ends at the end of the assistant's turn; one that has not ended after max_new_tokens is kept and
    its id is in Outputs.truncated. batch_size: prompts at once, chosen for the device's memory if not given, and
    halved where memory runs out. answered: called with an example's id, its answer and whether that was truncated,
    batch by batch. Raises DataError for a prompt that leaves no room for max_new_tokens.
    """
    prompts = [prompt_tokens(tokenizer, example.messages) for example in examples]
    refuse_too_long(
        examples,
        [len(prompt) + max_new_tokens for prompt in prompts],
        context_length,
        f"the model's context (with evaluation.max_new_tokens: {max_new_tokens})",
    )
    prepare_head(model)  # it reads the last tokens of all prompts at once
    stops = stop_ids(model, tokenizer)
    size = batch_size or answers_at_once(model, max(map(len, prompts)) + max_new_tokens, device)
    shared = SharedPrompt(model, prompts[0][: shared_length(prompts)], device)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    texts = [""] * len(prompts)
    truncated: set[str] = set()

    def answer(indices: Sequence[int]) -> None:
        tokens, mask = prompt_tensors(
            [prompts[index] for index in indices], shared=shared.length, filling=tokenizer.pad_token_id, device=device
        )
        with torch.inference_mode():
            answers = model.generate(
                input_ids=tokens,
                attention_mask=mask,
                past_key_values=shared.cache(len(indices)),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=tokenizer.pad_token_id,
                custom_generate=partial(_decode, stops=stops, limit=max_new_tokens),
            )
        for index, line in zip(indices, answers, strict=True):
            end = next((i for i, token in enumerate(line) if token in stops), None)
            if end is None:
                truncated.add(examples[index].id)
            texts[index] = tokenizer.decode(line[:end], skip_special_tokens=True).strip()
            if answered is not None:
                answered(examples[index].id, texts[index], end is None)
        if progress is not None:
            progress(len(indices))

    def attempt(size: int) -> None:
        while order:
            answer(order[:size])
            del order[:size]

    halving(attempt, size, smallest=1, what="answers at once")
    return Outputs(view, tuple(e.id for e in examples), tuple(texts), frozenset(truncated))


def _decode(
    model: Any,
    input_ids: torch.Tensor,
    *,
    stops: Sequence[int],
    limit: int,
    logits_processor: Any,
    **inputs: Any,
) -> list[list[int]]:
    """The decoding loop that `generate` calls after its preparations: greedy, and lines that have ended leave.

    inputs: attention_mask, past_key_values and what else generate prepared. They are not named above, since
    generate hands what a decoding loop names to it alone. Returns each line's new tokens, its end token included.
    """
    mask, cache = inputs["attention_mask"], inputs["past_key_values"]
    if mask is None:  # generate drops a mask of ones
        mask = torch.ones_like(input_ids)
    keep: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in inputs else {}
    answers: list[list[int]] = [[] for _ in input_ids]
    lines = list(range(len(answers)))  # which answer each line of the batch is
    ended = torch.zeros(len(lines), dtype=torch.bool, device=input_ids.device)
    ends = torch.tensor(stops, device=input_ids.device)
    step = input_ids[:, cache.get_seq_length() :]
    for _ in range(limit):
        if "position_ids" in inputs:
            keep["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -step.shape[1] :]
        out = model(input_ids=step, attention_mask=mask, past_key_values=cache, use_cache=True, **keep)
        scores = out.logits[:, -1]
        if logits_processor:
            scores = logits_processor(input_ids, scores.float())
        step = scores.max(-1, keepdim=True).indices  # of equal ones the first, as argmax, and several times faster
        for line, token, over in zip(lines, step[:, 0].tolist(), ended.tolist(), strict=True):
            if not over:
                answers[line].append(token)
        ended = ended | torch.isin(step[:, 0], ends)
        if bool(ended.all()):
            break
        input_ids = torch.cat([input_ids, step], dim=-1)
        mask = torch.cat([mask, torch.ones_like(step)], dim=-1)
        if int((~ended).sum()) <= _KEPT_SHARE * len(lines) and kept_tokens(cache):
            stay = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(stay)
            input_ids, mask, step, ended = input_ids[stay], mask[stay], step[stay], ended[stay]
            lines = [lines[line] for line in stay.tolist()]
    return answers


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model's own end tokens and the last token of an assistant's turn."""
    own = model.generation_config.eos_token_id
    stops = set(own if isinstance(own, list) else [own]) | {tokenizer.eos_token_id}
    turn = tokenizer(end_of_turn(tokenizer), add_special_tokens=False)["input_ids"]
    return sorted({*(token for token in stops if token is not None), turn[-1]})
