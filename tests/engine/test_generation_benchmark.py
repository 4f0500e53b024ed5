"""The peers of `benchmarks/generation.py` answer what the harness answers, in float32."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness.engine.models import LoadedModel, load_base, load_tokenizer
from harness.records import Example, Message

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
QUESTIONS = ("What is it?", "a cow or a hen", "the fox", "a saw, an axe, a pen, a mop and a pan", "the key", "a dog")


def test_all_sides_give_the_same_answers(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    generation = importlib.import_module("generation")
    monkeypatch.setattr(generation, "_BATCH", 4)  # so that there are two, and the second has two lines
    quantization = generation.QUANTIZATION["fp32"]
    examples = [
        Example(f"q{number}", (Message("system", "user"), Message("user", text)), "a")
        for number, text in enumerate(QUESTIONS)
    ]
    peer = LoadedModel(generation.stock_model(tiny_model, quantization, "cpu"), load_tokenizer(tiny_model), "cpu")
    ours = load_base(tiny_model, quantization, "cpu")
    expected = generation._padded(peer, examples, 12)
    assert len(set(expected)) > 1
    assert generation._continuous(peer, examples, 12) == expected
    assert generation._project(ours, examples, 12) == expected
    ours.close()
    peer.close()
