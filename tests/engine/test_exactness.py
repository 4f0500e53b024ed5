"""Packed rows give the numbers of plain computation, on several architectures, in float32."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from harness.engine.attention import IMPLEMENTATION
from harness.engine.layers import join_adapters, join_norms
from harness.engine.models import load_base, takes_rows
from harness.engine.packing import TokenSequence, pack
from harness.engine.scoring import batch_log_probs, batch_tensors, score_continuations
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
    model = load_base(folder, {"bnb_4bit_compute_dtype": "float32"}, "cpu").model.requires_grad_(True)
    model.get_output_embeddings().requires_grad_(False)  # as in training, where it is read for what is predicted alone
    return model


def alone(model: Any, sequence: TokenSequence) -> tuple[float, bool]:
    """Log-likelihood by one plain forward pass over the whole text."""
    text = torch.tensor([sequence.prefix + sequence.continuation])
    with torch.no_grad():
        log_probs = model(input_ids=text).logits[0].float().log_softmax(-1)
    start = len(sequence.prefix) - 1
    lines = log_probs[start : start + len(sequence.continuation)]
    targets = torch.tensor(sequence.continuation)
    return float(lines.gather(1, targets[:, None]).sum()), bool((lines.argmax(1) == targets).all())


def test_rows_are_computed_by_blocks(model: Any) -> None:
    """What the tests of this file compare is the attention that models are loaded with."""
    assert model.config._attn_implementation == IMPLEMENTATION
    ((row,),) = pack([TokenSequence((5, k % 50), tuple(range(k % 7 + 1, 40))) for k in range(12)], budget=1000)
    arguments = batch_tensors([row], "cpu", blocks=True)
    assert arguments["attention_mask"].shape[0] > 1
    assert arguments["row_keys"].shape[1] < len(row)


def test_rows_without_blocks_have_the_same_scores(model: Any) -> None:
    """For models whose attention does not pass the keys of a row on: one mask for all of it."""
    many = [TokenSequence((5, k % 50), tuple(range(k % 7 + 1, 40))) for k in range(40)]
    by_blocks = score_continuations(model, many, budget=300, device="cpu")
    model.set_attn_implementation("sdpa")
    try:
        by_mask = score_continuations(model, many, budget=300, device="cpu")
    finally:
        model.set_attn_implementation(IMPLEMENTATION)
    for one, other in zip(by_blocks, by_mask, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)


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


def test_loss_and_lora_gradients_are_those_of_a_padded_batch(model: Any) -> None:
    """As SFTTrainer computes them: right padding, labels on the completions, the mean over all their tokens."""
    torch.manual_seed(1)
    targets = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    targets.remove("embed_out" if "embed_out" in targets else "lm_head")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    tuned = get_peft_model(copy.deepcopy(model), config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.train()

    def gradients() -> dict[str, torch.Tensor]:
        found = {name: p.grad.clone() for name, p in tuned.named_parameters() if p.grad is not None}
        tuned.zero_grad()
        return found

    longest = max(len(s.prefix + s.continuation) for s in SEQUENCES)
    tokens = torch.zeros(len(SEQUENCES), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, -100)
    for line, sequence in enumerate(SEQUENCES):
        text = torch.tensor(sequence.prefix + sequence.continuation)
        tokens[line, : len(text)] = text
        mask[line, : len(text)] = 1
        labels[line, len(sequence.prefix) : len(text)] = text[len(sequence.prefix) :]
    expected_loss = tuned(input_ids=tokens, attention_mask=mask, labels=labels).loss
    expected_loss.backward()
    expected = gradients()

    join_adapters(tuned, "cpu")
    join_norms(tuned, "cpu")
    count = sum(len(sequence.continuation) for sequence in SEQUENCES)
    total = 0.0
    for rows in pack(SEQUENCES, budget=40):  # more than one row, one of them with a single sequence
        for row, (log_probs, _) in zip(rows, batch_log_probs(tuned, rows, "cpu"), strict=True):
            loss = -log_probs[[edge for _, edges in row.members for edge in edges]].sum() / count
            loss.backward()
            total += float(loss.detach())
    assert total == pytest.approx(float(expected_loss.detach()), rel=1e-4)
    ours = gradients()
    assert ours.keys() == expected.keys()
    assert len(ours) == 2 * len(targets)
    for name, gradient in expected.items():
        assert torch.linalg.norm(ours[name] - gradient) <= 1e-4 * torch.linalg.norm(gradient), name


def test_these_architectures_take_rows(model: Any) -> None:
    assert takes_rows(model)


def test_an_architecture_that_ignores_the_mask_is_found_out(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    forward = model.forward
    model.forward = lambda attention_mask=None, **arguments: forward(**arguments)
    assert not takes_rows(model)


def test_a_model_that_does_not_pass_keys_on_gets_one_mask_for_the_row(tiny_model: Path) -> None:
    model = load_base(tiny_model, {"bnb_4bit_compute_dtype": "float32"}, "cpu").model
    forward = model.forward
    model.forward = lambda row_keys=None, **arguments: forward(**arguments)
    assert takes_rows(model)
    assert model.config._attn_implementation == "sdpa"
    for score, sequence in zip(
        score_continuations(model, SEQUENCES, budget=1000, device="cpu"), SEQUENCES, strict=True
    ):
        assert score.log_likelihood == pytest.approx(alone(model, sequence)[0], abs=1e-3)


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
