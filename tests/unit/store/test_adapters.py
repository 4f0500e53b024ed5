"""An adapter is found only if it is whole, and becomes visible only when it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.store import Adapter, Store, content_key

FINGERPRINT = "ab" * 32
Keep = Callable[..., Adapter]


def test_a_kept_adapter_is_found(store: Store, keep: Keep) -> None:
    kept = keep()
    found = store.adapter(FINGERPRINT)
    assert found == kept
    assert found is not None
    assert found.folder == store.root / "adapters" / FINGERPRINT
    assert (found.folder / "adapter_model.safetensors").read_text() == "weights"
    assert found.manifest["global_step"] == found.manifest["max_steps"] == 4
    assert set(found.manifest["files"]) == {"adapter_model.safetensors", "tokenizer/vocabulary.txt"}
    assert not list((store.root / "checkpoints").glob("*"))
    assert [path.name for path in (store.root / "tmp").iterdir()] == ["folders.lock"]


def test_nothing_is_made_before_something_is_kept(store: Store) -> None:
    assert store.adapter(FINGERPRINT) is None
    assert not store.root.exists()


def test_the_digest_is_of_the_files_and_not_of_the_manifest(store: Store, keep: Keep) -> None:
    kept = []
    for text, seconds in (("weights", 1.5), ("weights", 9.0), ("other weights", 1.5)):
        kept.append(keep(text, seconds=seconds))
        shutil.rmtree(store.root / "adapters")
    first, later, other = kept
    assert first.digest == later.digest
    assert first.digest != other.digest


def test_a_whole_adapter_is_not_replaced(store: Store, keep: Keep) -> None:
    """Another process may be reading it."""
    first = keep()
    assert keep("other weights") == first
    assert store.adapter(FINGERPRINT) == first


def edit_manifest(folder: Path, **changes: Any) -> None:
    """As the harness would have written it, but for the changes."""
    file = folder / "manifest.json"
    content = {k: v for k, v in json.loads(file.read_text()).items() if k != "digest"}
    changed = {**content, **changes}
    file.write_text(json.dumps({**changed, "digest": content_key(changed)}, indent=2) + "\n")


def flip_last_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda f: (f / "manifest.json").unlink(),
    "manifest cut short": lambda f: (f / "manifest.json").write_text((f / "manifest.json").read_text()[:-9]),
    "manifest not UTF-8": lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"),
    "manifest of another kind": lambda f: (f / "manifest.json").write_text("[1, 2]"),
    "another fingerprint": lambda f: edit_manifest(f, fingerprint="cd" * 32),
    "stopped early": lambda f: edit_manifest(f, global_step=3),
    "no steps named": lambda f: edit_manifest(f, global_step=None),
    "no files named": lambda f: edit_manifest(f, files={}),
    "files of another kind": lambda f: edit_manifest(f, files=["adapter_model.safetensors"]),
    "weights missing": lambda f: (f / "adapter_model.safetensors").unlink(),
    "weights are a folder": lambda f: (
        (f / "adapter_model.safetensors").unlink(),
        (f / "adapter_model.safetensors").mkdir(),
    ),
    "one bit of the weights": lambda f: flip_last_bit(f / "adapter_model.safetensors"),
    "a file in a folder changed": lambda f: (f / "tokenizer" / "vocabulary.txt").write_text("a b d"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_adapter_is_absent_and_replaced(store: Store, keep: Keep, damage: Callable[[Path], object]) -> None:
    whole = keep()
    damage(whole.folder)
    assert store.adapter(FINGERPRINT) is None
    again = keep()
    assert store.adapter(FINGERPRINT) == again
    assert again.digest == whole.digest


def test_an_adapter_under_another_name_is_absent(store: Store, keep: Keep) -> None:
    shutil.copytree(keep().folder, store.root / "adapters" / ("cd" * 32))
    assert store.adapter("cd" * 32) is None


@pytest.mark.parametrize("call", ["os.replace", "os.fsync", "os.mkdir"])
def test_a_write_that_fails_leaves_no_adapter(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Where a damaged adapter stands in the place."""
    flip_last_bit(keep().folder / "adapter_model.safetensors")
    with monkeypatch.context() as patch:

        def refuse(*_arguments: Any, **options: Any) -> None:
            if not options.get("ignore_errors"):
                raise OSError(28, os.strerror(28))

        patch.setattr(call, refuse)
        with pytest.raises(StoreError, match="No space left on device"):
            keep()
    assert store.adapter(FINGERPRINT) is None
    keep()
    assert store.adapter(FINGERPRINT) is not None


def test_the_manifest_is_written_last(store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its content reaches the disk, everything that it names has its final content."""
    order: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        order.append("work" if path.parent.name == "tmp" else path.name)
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        assert not target.exists()
        named = json.loads((Path(source) / "manifest.json").read_text())["files"]
        assert {p.relative_to(source).as_posix() for p in Path(source).rglob("*") if p.is_file()} == {
            *named,
            "manifest.json",
        }
        order.append("replace")
        real_replace(source, target)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.replace", replace)
    keep()
    files = ["adapter_model.safetensors", "vocabulary.txt"]
    assert order == [*files, "manifest.json", "tokenizer", "work", "replace", "adapters"]


def test_an_error_in_the_work_folder_is_passed_on_and_the_folder_removed(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.work_folder() as work:  # noqa: PT012
        (work / "half").write_text("of it")
        raise ZeroDivisionError
    assert not work.exists()
