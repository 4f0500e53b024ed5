"""The base models with random weights on which `benchmarks/training.py --shape` measures speed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from harness.engine.models import load_base, load_tokenizer, takes_rows

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_random_model_has_its_shape_and_takes_rows(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    common = importlib.import_module("_common")
    common.random_model(tmp_path, "tiny", tiny_model, "cpu")
    loaded = load_base(tmp_path, {}, "cpu")
    config = loaded.model.config
    assert {name: getattr(config, name) for name in common.SHAPES["tiny"]} == common.SHAPES["tiny"]
    assert loaded.model.dtype == torch.bfloat16
    assert takes_rows(loaded.model)
    assert loaded.tokenizer.get_vocab() == load_tokenizer(tiny_model).get_vocab()
    assert config.eos_token_id == loaded.tokenizer.eos_token_id
    loaded.close()


def test_the_8b_shape_has_8_billion_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    monkeypatch.syspath_prepend(BENCHMARKS)
    shape = importlib.import_module("_common").SHAPES["8b"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**shape))
    assert 7.5e9 < sum(weight.numel() for weight in model.parameters()) < 8.5e9
