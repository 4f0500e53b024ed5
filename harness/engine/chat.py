"""Chat messages to tokens: one place, so that training, scoring and generation see the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jinja2 import TemplateError

from harness.engine.packing import TokenSequence
from harness.errors import DataError, ScoringError
from harness.records import Example, Message

__all__ = ["completion_tokens", "end_of_turn", "prompt_tokens", "refuse_too_long", "training_sequences"]

_PROBE = "harness-probe"


def prompt_tokens(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    """The chat rendered by the tokenizer's own template, up to where the assistant begins to answer."""
    text = _rendered(tokenizer, messages, add_generation_prompt=True)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def end_of_turn(tokenizer: Any) -> str:
    """What the chat template writes after an assistant's answer, up to the token that ends it.

    Templates write e.g. "<|im_end|>\\n": what follows the end token is never generated, so it is not trained.
    A template that ends an answer with no special token is given the tokenizer's end-of-sequence token.
    """
    dialogue = [Message("user", _PROBE), Message("assistant", _PROBE)]
    text = _rendered(tokenizer, dialogue)
    tail = text.rpartition(_PROBE)[2]
    ends = [tail.find(token) + len(token) for token in tokenizer.all_special_tokens if token and token in tail]
    return tail[: min(ends)] if ends else f"{tail.rstrip()}{tokenizer.eos_token}"


def completion_tokens(tokenizer: Any, text: str, end: str) -> tuple[int, ...]:
    """The tokens of an answer and of the end of its turn; never empty."""
    return tuple(tokenizer(text + end, add_special_tokens=False)["input_ids"])


def training_sequences(tokenizer: Any, examples: Iterable[Example]) -> list[TokenSequence]:
    """Prompt and expected answer of each example."""
    end = end_of_turn(tokenizer)
    return [
        TokenSequence(prompt_tokens(tokenizer, example.messages), completion_tokens(tokenizer, example.expected, end))
        for example in examples
    ]


def refuse_too_long(examples: Sequence[Example], lengths: Sequence[int], limit: int, what: str) -> None:
    """DataError for the examples with more than `limit` tokens: a truncated example would teach another text."""
    too_long = [(e, n) for e, n in zip(examples, lengths, strict=True) if n > limit]
    if too_long:
        raise DataError(
            f"{example.source or example.id}: {length} tokens, but {what} is {limit}. Shorten the example, or use "
            "a model with a longer context; nothing is truncated."
            for example, length in too_long[:20]
        )


def _rendered(tokenizer: Any, messages: Sequence[Message], **options: Any) -> str:
    """Raises ScoringError where the tokenizer has no chat template, or has one that refuses these messages."""
    if not tokenizer.chat_template:
        raise ScoringError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template, and the harness asks in chats. "
            "Use an instruct model, or save a chat_template.jinja beside the tokenizer."
        )
    plain = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(plain, tokenize=False, **options)
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise ScoringError(
            f"{tokenizer.name_or_path}: the chat template refuses messages of {roles}: {error}. Leave out what it does "
            "not take (data.system is often the one), or use another base model."
        ) from None
    return text
