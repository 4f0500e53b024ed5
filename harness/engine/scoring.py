"""Log-likelihoods of continuations, exact and with every shared prefix computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from harness.engine.packing import Row, TokenSequence, pack

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ContinuationScore", "row_log_probs", "row_tensors", "score_continuations"]


# Rows of a few lengths instead of every length: memory is reused and kernels are compiled once. On 2 CPU cores the
# search for free memory alone took a fifth of a training step when every row had its own length.
_LENGTH_STEP = 64
_PREDICTOR_STEP = 16


class ContinuationScore(NamedTuple):
    """log_likelihood: natural log, summed over the continuation. greedy: each token is the likeliest one."""

    log_likelihood: float
    greedy: bool


def row_tensors(row: Row, device: torch.device | str) -> dict[str, Tensor]:
    """The arguments of a causal language model's forward for one row.

    input_ids, position_ids: (1, L) int64. attention_mask: (1, 1, L, L) bool, True where a token may look; a row of
    one sequence is plain causal and has none. L is filled up to a multiple of _LENGTH_STEP.
    """
    filling = -len(row) % _LENGTH_STEP
    length = len(row) + filling
    # What fills the row is seen by no token of it, and sees only itself: attention over nothing would be NaN.
    arguments = {
        "input_ids": torch.tensor([row.tokens + [row.tokens[-1]] * filling], device=device),
        "position_ids": torch.tensor([row.positions + [0] * filling], device=device),
    }
    if row.ends.count(len(row)) != len(row):
        index = torch.arange(length, device=device)
        ends = torch.tensor(row.ends + list(range(len(row) + 1, length + 1)), device=device)
        visible = (index[None, :] <= index[:, None]) & (index[:, None] < ends[None, :])
        arguments["attention_mask"] = visible[None, None]
    return arguments


def row_log_probs(model: Any, row: Row, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """(P,) float32 log-probabilities of the row's targets, and (P,) bool: the target is the likeliest token."""
    distinct = sorted(set(row.predictors))
    filled = distinct + distinct[-1:] * (-len(distinct) % _PREDICTOR_STEP)
    where = {predictor: i for i, predictor in enumerate(distinct)}
    logits = model(
        **row_tensors(row, device),
        logits_to_keep=torch.tensor(filled, device=device),
        use_cache=False,
    ).logits[0]
    line = torch.tensor([where[p] for p in row.predictors], device=device)
    targets = torch.tensor(row.targets, device=device)
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    return log_probs[line, targets], logits.argmax(dim=-1)[line] == targets


def score_continuations(
    model: Any,
    sequences: Sequence[TokenSequence],
    *,
    budget: int,
    device: torch.device | str,
    share: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[ContinuationScore]:
    """Scores in the order of `sequences`; see `pack` for budget and share.

    progress: called with the number of sequences scored since its last call.
    """
    scores: list[ContinuationScore | None] = [None] * len(sequences)
    with torch.inference_mode():
        for row in pack(sequences, budget=budget, share=share):
            log_probs, likeliest = row_log_probs(model, row, device)
            log_prob_list, likeliest_list = log_probs.tolist(), likeliest.tolist()
            for index, edges in row.members:
                scores[index] = ContinuationScore(
                    sum(log_prob_list[edge] for edge in edges), all(likeliest_list[edge] for edge in edges)
                )
            if progress is not None:
                progress(len(row.members))
    return [score for score in scores if score is not None]
