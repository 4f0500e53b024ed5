"""Log-likelihoods of continuations, exact and with every shared prefix computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from harness.engine.attention import IMPLEMENTATION, block_mask, visible_square
from harness.engine.head import log_probs
from harness.engine.memory import halving
from harness.engine.packing import Row, TokenSequence, pack

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LENGTH_STEP",
    "ContinuationScore",
    "batch_log_probs",
    "batch_tensors",
    "by_blocks",
    "predicting",
    "score_continuations",
]

LENGTH_STEP = 16
"""Tensors of a few lengths instead of every length, as rows have: memory is reused and kernels are compiled once. On
2 CPU cores the search for free memory took a fifth of a training step when every row had its own length."""


class ContinuationScore(NamedTuple):
    """log_likelihood: natural log, summed over the continuation. greedy: each token is the likeliest one."""

    log_likelihood: float
    greedy: bool


def batch_tensors(rows: Sequence[Row], device: torch.device | str, *, blocks: bool) -> dict[str, Tensor]:
    """The arguments of a causal language model's forward for one batch of `pack`.

    input_ids: (B, L) int64. Rows of one sequence are plain causal and need no more: shorter ones are filled up behind
    their end, which no token of theirs sees. One row of several sequences is filled up a little too, and has
    position_ids, (1, L) int64, and an attention_mask: (1, 1, L, L) bool, True where a token may look, or with `blocks`,
    for models that compute `row_attention`, its mask and row_keys.
    """
    several = len(rows) == 1 and rows[0].ends.count(len(rows[0])) != len(rows[0])
    longest = max(map(len, rows))
    length = longest + (-longest % LENGTH_STEP if several else 0)
    arguments = {
        "input_ids": torch.tensor([row.tokens + [row.tokens[-1]] * (length - len(row)) for row in rows], device=device)
    }
    if several:
        (row,) = rows
        arguments["position_ids"] = torch.tensor([row.positions + [0] * (length - len(row))], device=device)
        # The filling sees only itself: attention over nothing would be NaN.
        ends = [*row.ends, *range(len(row) + 1, length + 1)]
        if blocks:
            arguments["row_keys"], arguments["attention_mask"] = block_mask(ends, device)
        else:
            arguments["attention_mask"] = visible_square(range(length), ends, length, device)
    return arguments


def by_blocks(model: Any) -> bool:
    """Whether the model computes `row_attention`."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == IMPLEMENTATION


def predicting(predictors: Iterable[int]) -> tuple[list[int], dict[int, int]]:
    """The tokens whose hidden states the head reads, each once and filled up to a multiple of LENGTH_STEP, and token ->
    its place among them."""
    distinct = sorted(set(predictors))
    return distinct + distinct[-1:] * (-len(distinct) % LENGTH_STEP), {token: i for i, token in enumerate(distinct)}


def batch_log_probs(
    model: Any, rows: Sequence[Row], device: torch.device | str, *, cache: Any = None
) -> list[tuple[Tensor, Tensor | None]]:
    """For each row (P,) float32 log-probabilities of its targets, and (P,) bool: the target is the likeliest token.

    The second is None where gradients are recorded: training has no use for it. cache: an empty one of transformers,
    which then has the keys and values of one row.
    """
    filled, where = predicting(predictor for row in rows for predictor in row.predictors)
    arguments: dict[str, Any] = batch_tensors(rows, device, blocks=by_blocks(model))
    if cache is not None:
        arguments["past_key_values"] = cache
    arguments["logits_to_keep"] = torch.tensor(filled, device=device)
    # Indices into all rows at once: taking a row out of the logits would copy them in the backward pass.
    lines = [number * len(filled) + where[predictor] for number, row in enumerate(rows) for predictor in row.predictors]
    targets = [target for row in rows for target in row.targets]
    found, likeliest = log_probs(
        model, arguments, torch.tensor(lines, device=device), torch.tensor(targets, device=device)
    )
    sizes = [len(row.targets) for row in rows]
    parts = torch.split(found, sizes)
    if likeliest is None:
        return [(part, None) for part in parts]
    return list(zip(parts, torch.split(likeliest, sizes), strict=True))


def score_continuations(
    model: Any,
    sequences: Sequence[TokenSequence],
    *,
    budget: int,
    device: torch.device | str,
    share: bool = True,
    progress: Callable[[int], None] | None = None,
    scored: Callable[[int, ContinuationScore], None] | None = None,
) -> list[ContinuationScore]:
    """Scores in the order of `sequences`; see `pack` for budget and share.

    The budget is halved where memory runs out. progress: called with the number of sequences scored since its
    last call. scored: called with each sequence's number and score as soon as there is one.
    Raises ScoringError if memory does not suffice for one sequence.
    """
    scores: dict[int, ContinuationScore] = {}

    def score(rows: Sequence[Row], indices: Sequence[int]) -> None:
        with torch.inference_mode():
            results = batch_log_probs(model, rows, device)
        for row, (found, likeliest) in zip(rows, results, strict=True):
            if likeliest is None:
                raise RuntimeError("scores are computed without gradients")
            log_prob_list, likeliest_list = found.tolist(), likeliest.tolist()
            for member, edges in row.members:
                result = ContinuationScore(
                    sum(log_prob_list[edge] for edge in edges), all(likeliest_list[edge] for edge in edges)
                )
                scores[indices[member]] = result
                if scored is not None:
                    scored(indices[member], result)
            if progress is not None:
                progress(len(row.members))

    def attempt(budget: int) -> None:
        indices = [index for index in range(len(sequences)) if index not in scores]
        for rows in pack([sequences[index] for index in indices], budget=budget, share=share):
            score(rows, indices)

    longest = max((len(sequence.inputs) for sequence in sequences), default=1)
    halving(attempt, max(budget, longest), smallest=longest, what="tokens at once")
    return [scores[index] for index in range(len(sequences))]
