"""Attaching an adapter to a loaded base, and what each view of the one load computes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.engine.models import LoadedModel, choose_device, load_base
from harness.errors import BaseModelError, ScoringError

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10]])
FLOAT32 = {"bnb_4bit_compute_dtype": "float32"}


@pytest.fixture(scope="module")
def saved_adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes what the model says: a fresh one has B = 0 and would equal its base."""
    folder = tmp_path_factory.mktemp("adapter")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(saved_adapter: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for file in saved_adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def logits(model: object) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=TOKENS).logits  # type: ignore[operator]
    return result


def test_base_view_is_exactly_the_base(tiny_loaded: LoadedModel, adapter: Path) -> None:
    before = logits(tiny_loaded.model)
    tiny_loaded.attach(adapter)
    with tiny_loaded.base_view() as model:
        assert torch.equal(logits(model), before)
    with tiny_loaded.adapter_view() as model:
        assert not torch.allclose(logits(model), before, atol=0.1)
        changed = logits(model)
    with tiny_loaded.base_view() as model:  # and again, after the other view
        assert torch.equal(logits(model), before)
    with tiny_loaded.adapter_view() as model:
        assert torch.equal(logits(model), changed)


def test_base_view_without_an_adapter_is_the_model(tiny_loaded: LoadedModel) -> None:
    with tiny_loaded.base_view() as model:
        assert model is tiny_loaded.model
    with pytest.raises(ScoringError, match="no adapter is attached"), tiny_loaded.adapter_view():
        pass


def test_the_adapter_view_is_pefts_own(tiny_loaded: LoadedModel, adapter: Path, tiny_model: Path) -> None:
    """W x + B A x * alpha / r, as merging the adapter into the weights gives it."""
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().eval()
    tiny_loaded.attach(adapter)
    with tiny_loaded.adapter_view() as model:
        assert torch.allclose(logits(model), logits(merged), atol=1e-3)


def edit(folder: Path, *, drop: int = 0, add: str = "") -> str:
    """Drop the first keys of the adapter's file, or add one; returns the first key there was."""
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    names = sorted(weights)
    for name in names[:drop]:
        del weights[name]
    if add:
        weights[add] = torch.zeros(4, 64)
    save_file(weights, file)
    return names[0]


def test_a_missing_key_is_refused(tiny_loaded: LoadedModel, adapter: Path) -> None:
    first = edit(adapter, drop=2)
    before = logits(tiny_loaded.model)
    with pytest.raises(
        ScoringError,
        match=rf"^{adapter / 'adapter_model.safetensors'}: does not fit the model: "
        rf"2 keys missing, 0 unknown, first {first}$",
    ):
        tiny_loaded.attach(adapter)
    assert not tiny_loaded.has_adapter
    assert not any("lora" in name for name, _ in tiny_loaded.model.named_modules())  # nothing of it stays
    assert torch.equal(logits(tiny_loaded.model), before)


def test_an_unknown_key_is_refused(tiny_loaded: LoadedModel, adapter: Path) -> None:
    unknown = "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight"
    edit(adapter, add=unknown)
    with pytest.raises(ScoringError, match=rf"does not fit the model: 0 keys missing, 1 unknown, first {unknown}$"):
        tiny_loaded.attach(adapter)
    assert not tiny_loaded.has_adapter


@pytest.mark.parametrize("instead", [None, "adapter_model.bin"])
def test_an_adapter_without_safetensors_is_refused(
    tiny_loaded: LoadedModel, adapter: Path, instead: str | None
) -> None:
    """PEFT would load a .bin, which is a pickle and may run code."""
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    if instead is not None:
        torch.save(weights, adapter / instead)
    with pytest.raises(ScoringError, match=rf"^{adapter}: adapter_model\.safetensors is missing$"):
        tiny_loaded.attach(adapter)
    assert not tiny_loaded.has_adapter


def test_attaching_warns_of_nothing(tiny_loaded: LoadedModel, adapter: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_loaded.attach(adapter)


def test_a_closed_handle_says_so(tiny_loaded: LoadedModel, adapter: Path) -> None:
    tiny_loaded.close()
    tiny_loaded.close()
    assert tiny_loaded.model is None
    for use in (tiny_loaded.base_view, tiny_loaded.adapter_view):
        with pytest.raises(ScoringError, match="this model handle is closed"), use():
            pass
    with pytest.raises(ScoringError, match="this model handle is closed"):
        tiny_loaded.attach(adapter)


def test_a_base_that_cannot_be_loaded_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "of-tomorrow"}')
    with pytest.raises(BaseModelError, match=rf"^{tmp_path}: transformers cannot load this base model: .*of-tomorrow"):
        load_base(tmp_path, FLOAT32, "cpu")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("gpu", r"--harness-device: 'gpu' is no device\. Use cpu, cuda or cuda:0\."),
        ("meta", r"--harness-device: meta is not supported\. Use cpu, cuda or cuda:0\."),
        ("cuda:1", r"--harness-device: cuda:1 was asked for, and torch sees no GPU here\."),
    ],
)
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, wanted: str, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BaseModelError, match=message):
        choose_device(wanted)


def test_the_first_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert choose_device(None) == choose_device("auto") == expected
        assert choose_device("cpu") == "cpu"
