"""Log-likelihoods of continuations, exact and with every shared prefix computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from harness.engine.attention import BLOCK, IMPLEMENTATION, block_mask
from harness.engine.memory import halving
from harness.engine.packing import Row, TokenSequence, pack

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ContinuationScore", "batch_log_probs", "batch_tensors", "score_continuations"]


# Tensors of a few lengths instead of every length, as rows have: memory is reused and kernels are compiled once. On
# 2 CPU cores the search for free memory took a fifth of a training step when every row had its own length.
_PREDICTOR_STEP = 16


class ContinuationScore(NamedTuple):
    """log_likelihood: natural log, summed over the continuation. greedy: each token is the likeliest one."""

    log_likelihood: float
    greedy: bool


def batch_tensors(rows: Sequence[Row], device: torch.device | str, *, blocks: bool) -> dict[str, Tensor]:
    """The arguments of a causal language model's forward for one batch of `pack`.

    input_ids: (B, L) int64. Rows of one sequence are plain causal and need no more: shorter ones are filled up behind
    their end, which no token of theirs sees. One row of several sequences is filled up to a multiple of BLOCK and has
    position_ids, (1, L) int64, and an attention_mask: (1, 1, L, L) bool, True where a token may look, or with `blocks`,
    for models that compute `row_attention`, its mask and row_keys.
    """
    several = len(rows) == 1 and rows[0].ends.count(len(rows[0])) != len(rows[0])
    longest = max(map(len, rows))
    length = longest + (-longest % BLOCK if several else 0)
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
            index, end = torch.arange(length, device=device), torch.tensor(ends, device=device)
            visible = (index[None, :] <= index[:, None]) & (index[:, None] < end[None, :])
            arguments["attention_mask"] = visible[None, None]
    return arguments


def batch_log_probs(model: Any, rows: Sequence[Row], device: torch.device | str) -> list[tuple[Tensor, Tensor | None]]:
    """For each row (P,) float32 log-probabilities of its targets, and (P,) bool: the target is the likeliest token.

    The second is None where gradients are recorded: training has no use for it.
    """
    distinct = sorted({predictor for row in rows for predictor in row.predictors})
    filled = distinct + distinct[-1:] * (-len(distinct) % _PREDICTOR_STEP)
    where = {predictor: i for i, predictor in enumerate(distinct)}
    blocks = getattr(getattr(model, "config", None), "_attn_implementation", None) == IMPLEMENTATION
    arguments = batch_tensors(rows, device, blocks=blocks)
    logits = model(**arguments, logits_to_keep=torch.tensor(filled, device=device), use_cache=False).logits
    # Indices into all rows at once: taking a row out of the logits would copy them in the backward pass.
    lines = [
        torch.tensor([number * len(filled) + where[predictor] for predictor in row.predictors], device=device)
        for number, row in enumerate(rows)
    ]
    targets = [torch.tensor(row.targets, device=device) for row in rows]
    flat = logits.flatten(0, 1)
    log_probs = torch.log_softmax(flat.float(), dim=-1)
    likeliest = None if torch.is_grad_enabled() else flat.argmax(dim=-1)
    return [
        (log_probs[line, target], None if likeliest is None else likeliest[line] == target)
        for line, target in zip(lines, targets, strict=True)
    ]


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
        for row, (log_probs, likeliest) in zip(rows, results, strict=True):
            if likeliest is None:
                raise RuntimeError("scores are computed without gradients")
            log_prob_list, likeliest_list = log_probs.tolist(), likeliest.tolist()
            for member, edges in row.members:
                found = ContinuationScore(
                    sum(log_prob_list[edge] for edge in edges), all(likeliest_list[edge] for edge in edges)
                )
                scores[indices[member]] = found
                if scored is not None:
                    scored(indices[member], found)
            if progress is not None:
                progress(len(row.members))

    def attempt(budget: int) -> None:
        indices = [index for index in range(len(sequences)) if index not in scores]
        for rows in pack([sequences[index] for index in indices], budget=budget, share=share):
            score(rows, indices)

    longest = max((len(sequence.inputs) for sequence in sequences), default=1)
    halving(attempt, max(budget, longest), smallest=longest, what="tokens at once")
    return [scores[index] for index in range(len(sequences))]
