"""From recipe to adapter in the store: once, whole, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError, TrainingError
from harness.pipeline import Places, RecipeRun, Session
from harness.store import Store


def run_in(project: Path, **options: Any) -> RecipeRun:
    return Session(Places.below(project), environ={}, **options).open("animals")


@pytest.fixture
def untrained(project: Path) -> Path:
    """The project without a store, and with a training of one epoch."""
    shutil.rmtree(project / ".harness")
    recipe = project / "fixtures" / "recipes" / "animals.yaml"
    recipe.write_text(recipe.read_text().replace("num_train_epochs: 10", "num_train_epochs: 1"))
    return project


def test_the_manifest_says_what_the_adapter_is(project: Path) -> None:
    run = run_in(project)
    adapter = run.adapter()
    manifest = json.loads((adapter.folder / "manifest.json").read_text())
    assert manifest["fingerprint"] == run.fingerprint == adapter.folder.name
    assert manifest["global_step"] == manifest["max_steps"] == 120  # 96 examples, 8 a step, 10 epochs
    data = project / "fixtures" / "data"
    assert manifest["data_digests"] == {
        split: hashlib.sha256((data / f"{split}.jsonl").read_bytes()).hexdigest()
        for split in ("train", "validation", "test")
    }
    assert manifest["base"]["digest"] == run.base.digest
    assert manifest["recipe"]["lora"]["r"] == 16
    assert {"torch", "transformers", "peft", "trl", "bitsandbytes"} <= set(manifest["versions"])
    assert manifest["seconds"] > 0
    assert manifest["tokens"] > manifest["computed_tokens"] > 0  # prefixes that examples share are computed once
    assert {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja", "training_log.jsonl"} <= set(
        manifest["files"]
    )


def test_a_trained_adapter_is_found_by_the_next_session(untrained: Path) -> None:
    lines: list[str] = []

    class Noting:
        def start(self, task: str, total: int) -> None: ...
        def advance(self, done: int, note: str = "") -> None: ...
        def finish(self, note: str = "") -> None: ...
        def message(self, line: str) -> None:
            lines.append(line)

    run = run_in(untrained, progress=Noting())
    adapter = run.adapter()
    assert run.from_store is False
    assert lines[0].startswith("animals: fine-tuning ")
    assert f"fingerprint {run.fingerprint[:12]} is not in {untrained / '.harness'}" in lines[0]
    again = run_in(untrained, allow_training=False)
    assert again.adapter() == Store(untrained / ".harness").adapter(again.fingerprint)
    assert again.adapter().digest == adapter.digest
    assert again.from_store is True


def test_what_another_process_trained_meanwhile_was_not_trained_here(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not there at the first look, there once the lock is ours."""
    run = run_in(project)
    real, looks = Store.adapter, []

    def late(self: Store, fingerprint: str) -> Any:
        looks.append(fingerprint)
        return None if len(looks) == 1 else real(self, fingerprint)

    monkeypatch.setattr(Store, "adapter", late)
    adapter = run.adapter()
    assert len(looks) == 2
    assert adapter.fingerprint == run.fingerprint
    assert run.from_store is True


def test_a_failed_training_leaves_nothing(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: Any, folder: Path, **_options: Any) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise TrainingError("the loss is nan at step 3")

    monkeypatch.setattr("harness.engine.training.train_adapter", failing)
    run = run_in(untrained)
    with pytest.raises(TrainingError, match="nan at step 3"):
        run.adapter()
    assert run.adapter_if_known() is None
    assert run.training() is None
    store = untrained / ".harness"
    assert not (store / "adapters").exists()
    assert [left.name for left in (store / "tmp").iterdir()] == ["folders.lock"]


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process can grow beyond it: a disk that is full, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_when_the_adapter_is_written_is_one_line(untrained: Path) -> None:
    """The log of the training fits, the weights do not."""
    run = run_in(untrained)
    with (
        file_size_limit(20_000),
        pytest.raises(
            StoreError,
            match=rf"^{untrained / '.harness'}: cannot be written \(File too large; [\d,]+ MB free\)\. Make room, or ",
        ),
    ):
        run.adapter()
    assert Store(untrained / ".harness").adapter(run.fingerprint) is None
    assert [left.name for left in (untrained / ".harness" / "tmp").iterdir()] == ["folders.lock"]
