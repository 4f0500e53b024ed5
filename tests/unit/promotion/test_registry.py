"""The registry on disk: versions, moves, two at once, and what was changed afterwards."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import PromotionError, StoreError
from harness.promotion import Move, Registry, check_alias, differences, envelope, promoted_digests, recipes_in
from harness.promotion import registry as module

WEIGHTS = "adapter_model.safetensors"


def adapter(root: Path, weights: bytes = b"weights") -> tuple[Path, dict[str, str]]:
    folder = root / f"adapter-{weights.decode()}"
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / "manifest.json").write_bytes(b"{}")
    return folder, {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in os.listdir(folder)}


def promote(root: Path, weights: bytes = b"weights", *, alias: str = "production", expected: int | None = -1) -> Move:
    """Into the store `root`. expected -1: whatever the alias's last move is."""
    folder, files = adapter(root, weights)
    registry = Registry(root, "animals")
    if expected == -1:
        live = registry.live(alias)
        expected = None if live is None else live.counter
    return registry.promote(
        folder,
        files,
        alias=alias,
        expected=expected,
        time="2026-11-23T20:00:00+00:00",
        reason="",
        run=f"run-of-{weights.decode()}",
        adapter_digest=weights.hex(),
        attest=lambda n: envelope(files, {"adapter": {"digest": weights.hex()}, "promotion": {"version": n}}, None),
    )


def roll_back(root: Path, version: int, *, alias: str = "production") -> Move:
    registry = Registry(root, "animals")
    live = registry.live(alias)
    assert live is not None
    return registry.roll_back(registry.version(version), alias=alias, expected=live.counter, time="later", reason="bad")


def test_versions_count_up_and_the_bytes_are_the_registrys_own(tmp_path: Path) -> None:
    first, second = promote(tmp_path, b"one"), promote(tmp_path, b"two")
    assert (first.version, first.before, second.version, second.before) == (1, None, 2, 1)
    for folder in tmp_path.glob("adapter-*"):
        (folder / WEIGHTS).write_bytes(b"gone")  # the store's may be freed or replaced
    registry = Registry(tmp_path, "animals")
    version = registry.checked(1)
    assert (version.folder / WEIGHTS).read_bytes() == b"one"
    assert version.adapter_digest == b"one".hex()
    assert registry.live("production") == second
    assert registry.live("staging") is None
    alias = json.loads((registry.folder / "aliases" / "production.json").read_text())
    assert (alias["version"], alias["counter"]) == (2, 2)
    assert recipes_in(tmp_path) == ("animals",)
    assert promoted_digests(tmp_path) == {b"one".hex(), b"two".hex()}


def test_nothing_promoted(tmp_path: Path) -> None:
    assert recipes_in(tmp_path) == ()
    assert promoted_digests(tmp_path) == frozenset()
    assert Registry(tmp_path, "animals").history() == ()
    assert Registry(tmp_path, "animals").previous("production") is None
    with pytest.raises(PromotionError, match="animals: there is no version 1; there is: none"):
        Registry(tmp_path, "animals").version(1)


def test_aliases_are_independent(tmp_path: Path) -> None:
    promote(tmp_path, b"one")
    staged = promote(tmp_path, b"two", alias="staging")
    assert (staged.version, staged.before) == (2, None)
    live = Registry(tmp_path, "animals").live("production")
    assert live is not None
    assert live.version == 1


def test_rolling_back_goes_further_back_each_time(tmp_path: Path) -> None:
    registry = Registry(tmp_path, "animals")
    for weights in (b"one", b"two", b"six"):
        promote(tmp_path, weights)
    assert registry.previous("production") == 2
    move = roll_back(tmp_path, 2)
    assert (move.kind, move.version, move.before, move.run, move.reason) == ("rollback", 2, 3, "run-of-two", "bad")
    assert registry.previous("production") == 1
    last = registry.last_promotion("production")
    assert last is not None
    assert last.version == 3  # what policy is compared with does not get looser by a rollback
    promote(tmp_path, b"ten")
    assert registry.previous("production") == 2  # not 3, which was left for a reason
    roll_back(tmp_path, 3)  # named on purpose
    assert registry.previous("production") == 4
    assert [m.counter for m in registry.history()] == [1, 2, 3, 4, 5, 6]


def test_a_move_on_what_was_moved_meanwhile_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    promote(tmp_path, b"one")
    promote(tmp_path, b"two", expected=1)
    with pytest.raises(
        PromotionError,
        match=r"animals: production was moved to version 2 \(run run-of-two, promotion at 2026-11-23T20:00:00\+00:00\) "
        "while this was checked; look at it with `harness registry animals`, then try again",
    ):
        promote(tmp_path, b"six", expected=1)
    with pytest.raises(PromotionError, match="production was moved to version 2"):
        promote(tmp_path, b"six", expected=None)
    assert sorted(p.name for p in (tmp_path / "registry/animals/versions").iterdir()) == ["1", "2"]


def _try(root: Path, weights: bytes, barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        results.put(promote(root, weights, expected=None).version)  # type: ignore[attr-defined]
    except PromotionError as error:
        results.put(str(error))  # type: ignore[attr-defined]


def test_of_several_at_once_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    names = (b"one", b"two", b"six", b"ten")
    for weights in names:
        adapter(tmp_path, weights)
    processes = [context.Process(target=_try, args=(tmp_path, weights, barrier, results)) for weights in names]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found.count(1) == 1
    winner = Registry(tmp_path, "animals").live("production")
    assert winner is not None
    assert all(f"(run {winner.run}, " in one for one in found if one != 1)
    assert len(Registry(tmp_path, "animals").history()) == 1


def _promote_and_be_killed(root: Path, point: int) -> None:
    """In a process of its own: before the write, sync or rename with this number."""
    seen = itertools.count(1)

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(seen) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in ("write_synced", "sync_folder", "_copy"):
        setattr(module, name, counted(getattr(module, name)))
    os.replace, os.rename = counted(os.replace), counted(os.rename)  # type: ignore[assignment]
    promote(root, b"two")


def test_a_kill_at_any_point_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """Before each write, sync and rename. After it the registry reads whole, and the next promotion works."""
    for point in itertools.count(1):
        root = tmp_path / str(point)
        root.mkdir()
        if not _killed_at(point, root):
            break
    assert point > 12


def _killed_at(point: int, tmp_path: Path) -> bool:
    """False where the promotion ended before it came to this point."""
    promote(tmp_path, b"one")
    process = multiprocessing.get_context("fork").Process(target=_promote_and_be_killed, args=(tmp_path, point))
    process.start()
    process.join()
    registry = Registry(tmp_path, "animals")
    live = registry.live("production")
    assert live is not None
    assert live.version in (1, 2)
    assert (registry.checked(live.version).folder / WEIGHTS).read_bytes() == {1: b"one", 2: b"two"}[live.version]
    assert process.exitcode in (-signal.SIGKILL, 0)
    after = promote(tmp_path, b"six")
    assert after.version == live.version + 1
    assert (registry.checked(after.version).folder / WEIGHTS).read_bytes() == b"six"
    assert not list(registry.folder.glob(".new-*"))
    return process.exitcode != 0


@pytest.mark.parametrize("write", range(1, 6))
def test_a_full_disk_promotes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    promote(tmp_path, b"one")
    count = 0

    def full(real: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == write:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)  # type: ignore[operator]

        return call

    monkeypatch.setattr(module, "write_synced", full(module.write_synced))
    monkeypatch.setattr(module.shutil, "copyfile", full(module.shutil.copyfile))
    before = Registry(tmp_path, "animals").live("production")
    what = "nothing was moved" if write < 5 else "production is version 2 now, but its copy in aliases/ cannot be"
    with pytest.raises(StoreError, match=what) as caught:
        promote(tmp_path, b"two")
    assert "No space left on device" in str(caught.value)
    after = Registry(tmp_path, "animals").live("production")
    # At the fifth write the history has it; only the copy for other programs could not be written.
    assert (after == before) == (write < 5)
    assert not list((tmp_path / "registry" / "animals").glob(".new-*"))


def test_what_was_changed_afterwards_is_found(tmp_path: Path) -> None:
    for weights in (b"one", b"two", b"six"):
        promote(tmp_path, weights)
    registry = Registry(tmp_path, "animals")
    history = registry.folder / "history"
    second = history / "000002.json"
    text = second.read_text()
    second.write_text(text.replace("run-of-two", "run-of-ten"))
    with pytest.raises(StoreError, match=r"000003\.json: does not follow from the move before it"):
        registry.history()
    second.unlink()
    with pytest.raises(StoreError, match=r"000003\.json: does not follow"):
        registry.history()
    second.write_text("{")
    with pytest.raises(StoreError, match=r"000002\.json: does not follow"):
        registry.history()
    second.write_text(text)
    last = history / "000003.json"
    kept = last.read_text()
    last.unlink()
    with pytest.raises(StoreError, match=r"production\.json: is move 3, and the history has 2, so its end was removed"):
        registry.history()
    last.write_text(kept)

    attestation = registry.folder / "versions" / "2" / "attestation.json"
    whole = attestation.read_bytes()
    attestation.write_bytes(whole.replace(b"=", b"A"))
    with pytest.raises(StoreError, match=r"attestation\.json: was changed after the promotion"):
        registry.version(2)
    attestation.unlink()
    with pytest.raises(StoreError, match="the registry cannot be read"):
        registry.version(2)
    attestation.write_bytes(whole)
    weights_file = registry.folder / "versions" / "2" / "adapter" / WEIGHTS
    for k in range(3):  # every byte of it
        flipped = bytearray(b"two")
        flipped[k] ^= 1
        weights_file.write_bytes(bytes(flipped))
        with pytest.raises(StoreError, match=f"is not what was promoted: {WEIGHTS} has sha256"):
            registry.checked(2)


def test_an_adapter_that_changes_while_it_is_copied_is_not_promoted(tmp_path: Path) -> None:
    folder, files = adapter(tmp_path, b"one")
    (folder / WEIGHTS).write_bytes(b"two")
    with pytest.raises(StoreError, match="was changed while it was promoted; nothing was promoted"):
        Registry(tmp_path, "animals").promote(
            folder,
            files,
            alias="production",
            expected=None,
            time="",
            reason="",
            run="",
            adapter_digest="",
            attest=lambda n: "{}",
        )
    assert Registry(tmp_path, "animals").history() == ()


@pytest.mark.parametrize("name", ["", "../animals", "a/b", "Animals"])
def test_a_recipe_is_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(PromotionError, match="a recipe's name is small letters, digits and '_', got"):
        Registry(tmp_path, name)


@pytest.mark.parametrize("alias", ["", "Production", "../x", "a/b", ".hidden", "a" * 65])
def test_an_alias_is_the_name_of_a_file(alias: str) -> None:
    with pytest.raises(PromotionError, match="an alias is small letters, digits, '-', '_' and"):
        check_alias(alias)
    assert check_alias("eu-west.blue_2") == "eu-west.blue_2"


def test_differences_of_a_directory(tmp_path: Path) -> None:
    folder, files = adapter(tmp_path)
    assert differences(folder, files) == ()
    for harmless in ("README.md", "attestation.json", ".gitattributes"):
        (folder / harmless).write_text("x")
    assert differences(folder, files) == ()
    (folder / "adapter_model.bin").write_bytes(b"x")
    (folder / "code").mkdir()
    (folder / "code" / "README.md").write_text("x")
    (folder / "more").symlink_to(tmp_path)
    (folder / WEIGHTS).write_bytes(b"other")
    (folder / "manifest.json").unlink()
    found = differences(folder, files)
    assert [line.partition(" has sha256")[0] for line in found] == [
        WEIGHTS,
        "manifest.json is missing",
        "adapter_model.bin was not promoted",
        "code/README.md was not promoted",
        "more was not promoted",
    ]
    assert len(differences(folder, files, added=True)) == 2
