"""How likely a view finds each of a fixed list of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.engine.chat import completion_tokens, end_of_turn, prompt_tokens, refuse_too_long
from harness.engine.memory import token_budget
from harness.engine.models import LoadedModel, takes_rows
from harness.engine.packing import TokenSequence
from harness.engine.scoring import ContinuationScore, score_continuations
from harness.records import Choices, Example

__all__ = ["score_options"]


def score_options(
    loaded: LoadedModel,
    model: Any,
    examples: Sequence[Example],
    options: Sequence[str],
    *,
    view: str,
    progress: Callable[[int], None] | None = None,
    answered: Callable[[str, tuple[float, ...]], None] | None = None,
) -> Choices:
    """Log-likelihood of every option, with the end of its turn, after every example's prompt.

    answered: called with an example's id and its log-likelihoods as soon as all of them are there.
    Raises DataError for an example whose prompt and longest option exceed the model's context.
    """
    tokenizer = loaded.tokenizer
    end = end_of_turn(tokenizer)
    answers = [completion_tokens(tokenizer, option, end) for option in options]
    prompts = [prompt_tokens(tokenizer, example.messages) for example in examples]
    lengths = [len(prompt) + max(map(len, answers)) for prompt in prompts]
    refuse_too_long(examples, lengths, loaded.context_length, "the model's context")
    width = len(options)
    rows: list[dict[int, float]] = [{} for _ in examples]

    def scored(number: int, score: ContinuationScore) -> None:
        line, option = divmod(number, width)
        rows[line][option] = score.log_likelihood
        if answered is not None and len(rows[line]) == width:
            answered(examples[line].id, _in_order(rows[line]))

    score_continuations(
        model,
        [TokenSequence(prompt, answer) for prompt in prompts for answer in answers],
        budget=token_budget(model, max(lengths), loaded.device),
        device=loaded.device,
        share=takes_rows(model),
        progress=progress,
        scored=scored,
    )
    return Choices(view, tuple(example.id for example in examples), tuple(options), tuple(map(_in_order, rows)))


def _in_order(row: dict[int, float]) -> tuple[float, ...]:
    return tuple(row[option] for option in range(len(row)))
