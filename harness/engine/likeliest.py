"""Which of a fixed list of answers a model finds likeliest, without reading the answers that cannot be it.

A prompt alone gives the log-probability of each answer's first token, and what follows only makes an answer less
likely: one whose first token is already less likely than another whole answer is out. Prompts are read first, in
packed rows whose keys and values are kept; then, behind them, only the answers that may still win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache

from harness.engine.attention import visible_blocks, visible_square
from harness.engine.head import log_probs
from harness.engine.memory import halving
from harness.engine.packing import Row, TokenSequence, pack
from harness.engine.prompts import kept_tokens
from harness.engine.scoring import LENGTH_STEP, batch_log_probs, by_blocks, predicting

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["keeps_rows", "score_likeliest"]

_NEARLY = 2.0
"""Nats. Answers whose first token is that much less likely than the likeliest one are read together with it, in the
hope that no second look is needed."""


def keeps_rows(model: Any, device: torch.device | str) -> bool:
    """Whether `model`, which takes packed rows, keeps their keys and values as they are."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), past_key_values=cache, use_cache=True)
    return kept_tokens(cache) and cache.get_seq_length() == 2


def score_likeliest(
    model: Any,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[int]],
    *,
    budget: int,
    device: torch.device | str,
    progress: Callable[[int], None] | None = None,
    scored: Callable[[int, tuple[float | None, ...]], None] | None = None,
) -> list[tuple[float | None, ...]]:
    """For each prompt the log-likelihood of every option as its continuation, None where the option cannot win.

    prompts, options: token ids, none empty. The highest value of a prompt is that of its likeliest option, every option
    that is as likely has its value too, and each None stands for a lower one. budget: tokens that are read at once,
    halved where memory runs out. progress: called with the number of prompts done since its last call. scored: called
    with each prompt's number and values as soon as they are there.
    Raises ScoringError if memory does not suffice for one prompt and its options.
    """
    found: dict[int, tuple[float | None, ...]] = {}
    smallest = max(map(len, prompts)) + sum(map(len, options))

    def attempt(budget: int) -> None:
        left = [number for number in range(len(prompts)) if number not in found]
        sequences = [TokenSequence(tuple(prompts[number]), (options[0][0],)) for number in left]
        for (row,) in pack(sequences, budget=budget):
            with torch.inference_mode():
                answers = _row(model, row, options, budget, device)
            for member, values in answers:
                found[left[member]] = values
                if scored is not None:
                    scored(left[member], values)
            if progress is not None:
                progress(len(row.members))

    halving(attempt, max(budget, smallest), smallest=smallest, what="tokens at once")
    return [found[number] for number in range(len(prompts))]


@dataclass(slots=True)
class _Question:
    """A prompt of a row, for one or several equal ones: which tokens of the row are its own, in order, and what is
    known of each option: its log-likelihood, or until it has been read the highest that it may have."""

    path: list[int]
    bounds: list[float]
    known: list[bool]
    members: list[int] = field(default_factory=list)

    def may_win(self, within: float = 0.0) -> list[int]:
        """The options not yet read that may be the likeliest, or whose bound is `within` nats of the highest."""
        best = max((b for b, known in zip(self.bounds, self.known, strict=True) if known), default=None)
        least = max(self.bounds) - within if best is None else best
        # Not "bound >= least", so that what is not a number is read on, and seen.
        return [o for o, bound in enumerate(self.bounds) if not self.known[o] and not bound < least]

    def values(self) -> tuple[float | None, ...]:
        return tuple(bound if known else None for bound, known in zip(self.bounds, self.known, strict=True))


def _row(
    model: Any, row: Row, options: Sequence[Sequence[int]], budget: int, device: torch.device | str
) -> Iterator[tuple[int, tuple[float | None, ...]]]:
    """The member numbers of a row of prompts, and their values."""
    cache = DynamicCache()
    questions = _first_tokens(model, row, options, cache, device)
    read = cache.get_seq_length()
    for within in (_NEARLY, 0.0):
        asked = [(question, wanted) for question in questions if (wanted := question.may_win(within))]
        for part in _parts(asked, options, budget):
            _read_options(model, row, part, options, cache, device)
            cache.crop(read - cache.get_seq_length())  # how many to drop, as a negative number
    return ((member, question.values()) for question in questions for member in question.members)


def _first_tokens(
    model: Any, row: Row, options: Sequence[Sequence[int]], cache: DynamicCache, device: torch.device | str
) -> list[_Question]:
    """Read the prompts of a row into the cache, and each option's first token at their ends."""
    ends: dict[int, list[int]] = {}
    for member, (edge,) in row.members:
        ends.setdefault(row.predictors[edge], []).append(member)
    firsts = sorted({option[0] for option in options})
    prompts = Row(row.tokens, row.positions, row.ends)
    for last in ends:
        prompts.predictors += [last] * len(firsts)
        prompts.targets += firsts
    prompts.members = row.members
    ((values, _),) = batch_log_probs(model, [prompts], device, cache=cache)
    which = [firsts.index(option[0]) for option in options]
    questions = []
    for (last, members), line in zip(ends.items(), values.view(-1, len(firsts)).tolist(), strict=True):
        path = [token for token in range(last + 1) if row.ends[token] > last]
        known = [len(option) == 1 for option in options]
        questions.append(_Question(path, [line[first] for first in which], known, members))
    return questions


def _parts(
    asked: Sequence[tuple[_Question, list[int]]], options: Sequence[Sequence[int]], budget: int
) -> Iterator[list[tuple[_Question, list[int]]]]:
    """Questions whose options, taken together, have at most `budget` tokens to read."""
    part: list[tuple[_Question, list[int]]] = []
    size = 0
    for question, wanted in sorted(asked, key=lambda each: each[0].path[-1]):
        more = sum(len(options[option]) - 1 for option in wanted)
        if part and size + more > budget:
            yield part
            part, size = [], 0
        part.append((question, wanted))
        size += more
    if part:
        yield part


@dataclass(slots=True)
class _Behind:
    """Tokens that are read behind a row, in depth-first order of the forest that they make with it.

    order, ends: of the row's tokens and then these. Token t sees token k exactly if order[k] <= order[t] < ends[k].
    paths: for each of these, the tokens before it that it sees.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)


def _read_options(
    model: Any,
    row: Row,
    part: Sequence[tuple[_Question, list[int]]],
    options: Sequence[Sequence[int]],
    cache: DynamicCache,
    device: torch.device | str,
) -> None:
    """Read options behind the prompts that are in the cache; their log-likelihoods replace their bounds."""
    read = cache.get_seq_length()
    step = 1 + max(sum(len(options[option]) - 1 for option in wanted) for _, wanted in part)
    filling = read - len(row)
    behind = _Behind(
        order=[step * token for token in range(read)],
        ends=[step * end for end in row.ends] + [0] * filling,  # which nothing sees
    )
    edges: list[tuple[_Question, int, int, int]] = []  # question, option, which of the new tokens predicts, what
    for question, wanted in part:
        nodes = _add_trie(behind, question, [options[option] for option in wanted], step)
        for option in wanted:
            tokens = tuple(options[option])
            for depth in range(1, len(tokens)):
                edges.append((question, option, nodes[tokens[:depth]], tokens[depth]))
    for _ in range(-len(behind.tokens) % LENGTH_STEP):
        behind.tokens.append(behind.tokens[-1])
        behind.positions.append(0)
        behind.order.append(step * read + len(behind.order))
        behind.ends.append(behind.order[-1] + 1)
        behind.paths.append([])
    arguments: dict[str, Any] = {
        "input_ids": torch.tensor([behind.tokens], device=device),
        "position_ids": torch.tensor([behind.positions], device=device),
        "past_key_values": cache,
    }
    if by_blocks(model):
        arguments["row_keys"], arguments["attention_mask"] = visible_blocks(
            behind.order, behind.ends, behind.paths, device
        )
    else:
        arguments["attention_mask"] = visible_square(behind.order, behind.ends, len(behind.tokens), device)
    kept, where = predicting(predictor for _, _, predictor, _ in edges)
    arguments["logits_to_keep"] = torch.tensor(kept, device=device)
    lines: Tensor = torch.tensor([where[predictor] for _, _, predictor, _ in edges], device=device)
    targets: Tensor = torch.tensor([target for _, _, _, target in edges], device=device)
    found, _ = log_probs(model, arguments, lines, targets)
    for (question, option, _, _), value in zip(edges, found.tolist(), strict=True):
        question.bounds[option] += value
        question.known[option] = True


def _add_trie(
    behind: _Behind, question: _Question, wanted: Sequence[Sequence[int]], step: int
) -> dict[tuple[int, ...], int]:
    """Put what is read of these options behind their prompt. Returns which new token each beginning ends with."""
    read = len(behind.order) - len(behind.tokens)
    last = question.path[-1]
    beginnings = sorted({tuple(option[:depth]) for option in wanted for depth in range(1, len(option))})
    nodes = {beginning: len(behind.tokens) + number for number, beginning in enumerate(beginnings)}
    for number, beginning in enumerate(beginnings):
        inside = sum(other[: len(beginning)] == beginning for other in beginnings)
        behind.tokens.append(beginning[-1])
        behind.positions.append(len(question.path) + len(beginning) - 1)
        # Between the prompt's last token and the next one of the row.
        behind.order.append(step * last + 1 + number)
        behind.ends.append(step * last + 1 + number + inside)
        before = [read + nodes[beginning[:depth]] for depth in range(1, len(beginning))]
        behind.paths.append([*question.path, *before])
    return nodes
