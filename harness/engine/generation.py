"""Greedy answers in batches sorted by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.engine.chat import end_of_turn, prompt_tokens, refuse_too_long
from harness.records import Example, Outputs

__all__ = ["generate_answers"]


def generate_answers(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    view: str,
    max_new_tokens: int,
    context_length: int,
    device: str,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Outputs:
    """What `model` answers to each example's messages; deterministic (greedy).

    An answer ends at the end of the assistant's turn; one that has not ended after max_new_tokens is kept and
    its id is in Outputs.truncated. Raises DataError for a prompt that leaves no room for max_new_tokens.
    """
    prompts = [prompt_tokens(tokenizer, example.messages) for example in examples]
    refuse_too_long(
        examples,
        [len(prompt) + max_new_tokens for prompt in prompts],
        context_length,
        f"the model's context (with evaluation.max_new_tokens: {max_new_tokens})",
    )
    stops = _stop_ids(model, tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    texts = [""] * len(prompts)
    truncated: set[str] = set()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = max(len(prompts[index]) for index in batch)
        tokens = torch.full((len(batch), longest), tokenizer.pad_token_id, device=device)
        mask = torch.zeros_like(tokens)
        for line, index in enumerate(batch):  # padded on the left, so that every prompt ends where answers begin
            tokens[line, longest - len(prompts[index]) :] = torch.tensor(prompts[index], device=device)
            mask[line, longest - len(prompts[index]) :] = 1
        with torch.inference_mode():
            answers = model.generate(
                input_ids=tokens,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=tokenizer.pad_token_id,
            )[:, longest:].tolist()
        for index, answer in zip(batch, answers, strict=True):
            end = next((i for i, token in enumerate(answer) if token in stops), None)
            if end is None:
                truncated.add(examples[index].id)
            texts[index] = tokenizer.decode(answer[:end], skip_special_tokens=True).strip()
        if progress is not None:
            progress(len(batch))
    return Outputs(view, tuple(e.id for e in examples), tuple(texts), frozenset(truncated))


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model's own end tokens and the last token of an assistant's turn."""
    own = model.generation_config.eos_token_id
    stops = set(own if isinstance(own, list) else [own]) | {tokenizer.eos_token_id}
    turn = tokenizer(end_of_turn(tokenizer), add_special_tokens=False)["input_ids"]
    return sorted({*(token for token in stops if token is not None), turn[-1]})
