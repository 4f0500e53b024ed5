"""How likely a view finds each of a fixed list of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.engine.chat import completion_tokens, end_of_turn, prompt_tokens, refuse_too_long
from harness.engine.likeliest import keeps_rows, score_likeliest
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
    every: bool = True,
    progress: Callable[[int], None] | None = None,
    answered: Callable[[str, tuple[float | None, ...]], None] | None = None,
) -> Choices:
    """Log-likelihood of every option, with the end of its turn, after every example's prompt.

    every: False leaves out options that cannot be the likeliest, which have None, where the model can do so.
    progress: called with the number of options decided since its last call. answered: called with an example's id and
    its log-likelihoods as soon as all of them are there.
    Raises DataError for an example whose prompt and longest option exceed the model's context.
    """
    tokenizer = loaded.tokenizer
    end = end_of_turn(tokenizer)
    answers = [completion_tokens(tokenizer, option, end) for option in options]
    prompts = [prompt_tokens(tokenizer, example.messages) for example in examples]
    lengths = [len(prompt) + max(map(len, answers)) for prompt in prompts]
    refuse_too_long(examples, lengths, loaded.context_length, "the model's context")
    budget = token_budget(model, max(lengths), loaded.device)
    share = takes_rows(model)

    def given(number: int, values: tuple[float | None, ...]) -> None:
        if answered is not None:
            answered(examples[number].id, values)

    def count(prompts: int) -> None:
        if progress is not None:
            progress(prompts * len(options))

    rows: Sequence[tuple[float | None, ...]]
    if not every and share and keeps_rows(model, loaded.device):
        rows = score_likeliest(
            model, prompts, answers, budget=budget, device=loaded.device, progress=count, scored=given
        )
    else:
        rows = _score_every(
            model, prompts, answers, budget=budget, device=loaded.device, share=share, progress=progress, scored=given
        )
    return Choices(view, tuple(example.id for example in examples), tuple(options), tuple(rows))


def _score_every(
    model: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    budget: int,
    device: str,
    share: bool,
    progress: Callable[[int], None] | None,
    scored: Callable[[int, tuple[float | None, ...]], None],
) -> list[tuple[float, ...]]:
    width = len(answers)
    rows: list[dict[int, float]] = [{} for _ in prompts]

    def note(number: int, score: ContinuationScore) -> None:
        line, option = divmod(number, width)
        rows[line][option] = score.log_likelihood
        if len(rows[line]) == width:
            scored(line, _in_order(rows[line]))

    score_continuations(
        model,
        [TokenSequence(tuple(prompt), tuple(answer)) for prompt in prompts for answer in answers],
        budget=budget,
        device=device,
        share=share,
        progress=progress,
        scored=note,
    )
    return [_in_order(row) for row in rows]


def _in_order(row: dict[int, float]) -> tuple[float, ...]:
    return tuple(row[option] for option in range(len(row)))
