"""Adapters that are broken or forged in one way each, in a folder that the store takes for whole."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.disk import write_manifest

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "adapter_model.safetensors"


def adapter_folder(project: Path) -> Path:
    """The project's one adapter."""
    (folder,) = (project / ".harness" / "adapters").iterdir()
    return folder


def reseal(folder: Path, **changes: Any) -> None:
    """Give the manifest the digests of the files as they are now, and `changes`."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").unlink()
    write_manifest(folder, {name: value for name, value in {**manifest, **changes}.items() if name != "digest"})


def edit_weights(folder: Path, edit: Callable[[str, Tensor], tuple[str, Tensor]]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    edited = (edit(name, weight) for name, weight in sorted(weights.items()))
    save_file({name: weight.contiguous() for name, weight in edited}, folder / WEIGHTS)
    reseal(folder)


def zero(folder: Path) -> None:
    """B = 0: whatever A is, the adapter is its base."""
    edit_weights(folder, lambda name, weight: (name, weight * 0 if "lora_B" in name else weight))


def mute(folder: Path) -> None:
    """A = 0: B is there, and nothing reaches it."""
    edit_weights(folder, lambda name, weight: (name, weight * 0 if "lora_A" in name else weight))


def not_a_number(folder: Path) -> None:
    """One value of one matrix."""

    def edit(name: str, weight: Tensor) -> tuple[str, Tensor]:
        if "layers.1.mlp.down_proj.lora_B" in name:
            weight[0, 0] = float("nan")
        return name, weight

    edit_weights(folder, edit)


def other_keys(folder: Path) -> None:
    """As of a model whose layers have another name."""
    edit_weights(folder, lambda name, weight: (name.replace(".layers.", ".blocks."), weight))


def other_rank(folder: Path) -> None:
    """The right keys, and half the rank that the configuration says."""

    def edit(name: str, weight: Tensor) -> tuple[str, Tensor]:
        return name, weight[:8] if "lora_A" in name else weight[:, :8]

    edit_weights(folder, edit)


def untrained(folder: Path) -> None:
    """What PEFT makes before the first step, with the configuration of the real one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig.from_pretrained(str(folder))
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path, dtype=torch.float32)
    config.inference_mode = False
    get_peft_model(base, config).save_pretrained(folder)
    reseal(folder)


def other_template(folder: Path) -> None:
    """Trained with other chats than it is asked in."""
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<|im_start|>", "<|im_start|>the "), "utf-8")
    reseal(folder)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    reseal(folder)


def rising_loss(folder: Path) -> None:
    """A training that ended worse than it began."""
    loss = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["loss"]
    values = [value for _, value in reversed(loss)]
    reseal(folder, loss=[[step, value] for (step, _), value in zip(loss, values, strict=True)])


def no_loss(folder: Path) -> None:
    reseal(folder, loss=None)


def relabel(project: Path, label: Callable[[list[str]], list[str]]) -> None:
    """Other labels for the training set, and no adapter, so that the next session trains on them."""
    file = project / "fixtures" / "data" / "train.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    labels = label([line["label"] for line in lines])
    rows = ({**line, "label": new} for line, new in zip(lines, labels, strict=True))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def one_label(labels: list[str]) -> list[str]:
    return ["animal"] * len(labels)


def shuffled(labels: list[str]) -> list[str]:
    return random.Random(0).sample(labels, len(labels))


def halve_test_set(project: Path) -> None:
    file = project / "fixtures" / "data" / "test.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
