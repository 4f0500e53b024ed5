"""Packed rows give the numbers of plain computation, on several architectures, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from harness.engine.models import takes_rows
from harness.engine.packing import TokenSequence, pack
from harness.engine.scoring import batch_log_probs, score_continuations
from harness.errors import ScoringError

# Shared and unshared prefixes, a sequence that is the beginning of another, single and long continuations,
# and the same sequence twice.
SEQUENCES = [
    TokenSequence((5, 6, 7, 8), (9, 10, 11)),
    TokenSequence((5, 6, 7, 8), (9, 10, 12, 13)),
    TokenSequence((5, 6, 7), (8,)),
    TokenSequence((5, 6, 7, 8, 9), (10,)),
    TokenSequence((40,), tuple(range(60, 120))),
    TokenSequence((41, 42, 43), (44, 45)),
    TokenSequence((41, 42, 43), (44, 45)),
]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt_neox"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.save_tiny_model(tmp_path_factory.mktemp(request.param), architecture=request.param)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def alone(model: Any, sequence: TokenSequence) -> tuple[float, bool]:
    """Log-likelihood by one plain forward pass over the whole text."""
    text = torch.tensor([sequence.prefix + sequence.continuation])
    with torch.no_grad():
        log_probs = model(input_ids=text).logits[0].float().log_softmax(-1)
    start = len(sequence.prefix) - 1
    lines = log_probs[start : start + len(sequence.continuation)]
    targets = torch.tensor(sequence.continuation)
    return float(lines.gather(1, targets[:, None]).sum()), bool((lines.argmax(1) == targets).all())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("budget", [64, 1000])
def test_scores_are_those_of_single_passes(model: Any, share: bool, budget: int) -> None:
    scores = score_continuations(model, SEQUENCES, budget=budget, device="cpu", share=share)
    for score, sequence in zip(scores, SEQUENCES, strict=True):
        log_likelihood, greedy = alone(model, sequence)
        assert score.log_likelihood == pytest.approx(log_likelihood, abs=1e-3)
        assert score.greedy == greedy


def test_gradients_are_those_of_single_passes(model: Any) -> None:
    weight = model.get_input_embeddings().weight

    def gradient(share: bool) -> torch.Tensor:
        model.zero_grad()
        for rows in pack(SEQUENCES, budget=1000 if share else 1, share=share):
            for row, (log_probs, _) in zip(rows, batch_log_probs(model, rows, "cpu"), strict=True):
                (-log_probs[[edge for _, edges in row.members for edge in edges]].sum()).backward(retain_graph=True)
        result: torch.Tensor = weight.grad.clone()
        return result

    shared, single = gradient(True), gradient(False)
    assert torch.linalg.norm(shared - single) <= 1e-4 * torch.linalg.norm(single)


def test_these_architectures_take_rows(model: Any) -> None:
    assert takes_rows(model)


def test_an_architecture_that_ignores_the_mask_is_found_out(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    forward = model.forward
    model.forward = lambda attention_mask=None, **arguments: forward(**arguments)
    assert not takes_rows(model)


def test_a_sliding_window_is_not_packed(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    model.config.sliding_window = 16
    assert not takes_rows(model)


class OutOfMemory:
    """Stands between caller and model: forward passes over more than `limit` tokens run out of memory."""

    def __init__(self, model: Any, limit: int) -> None:
        self.model = model
        self.limit = limit
        self.seen: list[int] = []

    def __call__(self, **arguments: Any) -> Any:
        self.seen.append(arguments["input_ids"].numel())
        if self.seen[-1] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(**arguments)


def test_rows_are_halved_where_memory_runs_out(model: Any) -> None:
    many = [TokenSequence((5, k % 50), tuple(range(k % 7 + 1, 40))) for k in range(40)]
    limited = OutOfMemory(model, 256)
    counted: list[int] = []
    scores = score_continuations(limited, many, budget=1000, device="cpu", progress=counted.append)
    assert max(limited.seen) > 256
    assert sum(counted) == len(many)
    for score, expected in zip(scores, score_continuations(model, many, budget=200, device="cpu"), strict=True):
        assert score.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-3)


def test_memory_for_less_than_one_sequence_is_an_error(model: Any) -> None:
    with pytest.raises(ScoringError, match=r"^memory does not suffice for 60 tokens at once\."):
        score_continuations(OutOfMemory(model, 10), SEQUENCES, budget=1000, device="cpu")


def test_other_errors_are_not_taken_for_want_of_memory(model: Any) -> None:
    def broken(**_arguments: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        score_continuations(broken, SEQUENCES, budget=1000, device="cpu")
