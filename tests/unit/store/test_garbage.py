"""What is freed, and what never is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import RecipeEntry, RunEntry, content_key, keep_run
from harness.store.garbage import find_garbage, free

DAY = 86_400.0
NOW = 1_800_000_000.0
BEFORE = NOW - 30 * DAY


def age(path: Path, days: float) -> None:
    """As if everything in it had been written and read so long ago."""
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        os.utime(file, (NOW - days * DAY,) * 2)


def adapter(root: Path, name: str, days: float) -> str:
    """An adapter last used `days` ago; its digest."""
    folder = root / "adapters" / (name * 64)[:64]
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"w" * 1000)
    files = {"adapter_model.safetensors": name}
    (folder / "manifest.json").write_text(json.dumps({"files": files, "recipe": {"name": "tickets"}}))
    age(folder, days)
    return content_key(files)


def run(root: Path, number: int, days: float, digest: str | None, recipe: str = "tickets") -> RunEntry:
    run_id = f"20261101-0900{number:02d}-1"
    age(keep_run(root, run_id, "{}", {}), days)
    return RunEntry(run_id, "", "", 1.0, "pass", None, None, (RecipeEntry(recipe, "pass", digest, 1, 1),))


def result(root: Path, place: str, days: float) -> Path:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"r" * 100)
    age(file, days)
    return file


def test_what_is_old_goes_and_what_is_recent_stays(tmp_path: Path) -> None:
    adapter(tmp_path, "a", 31)
    adapter(tmp_path, "b", 29)
    result(tmp_path, "results/outputs/x.json", 31)
    result(tmp_path, "results/outputs/y.json", 29)
    result(tmp_path, "answers/choices/k/1.json", 40)
    result(tmp_path, "checkpoints/ffff/12/state.safetensors", 40)
    found = find_garbage(tmp_path, [], before=BEFORE, promoted=set())
    assert [one.path.name[0] for one in found.adapters] == ["a"]
    assert sorted((one.name, one.path.name) for one in found.results) == [
        ("checkpoints", "ffff"),
        ("choices", "k"),
        ("outputs", "x.json"),
    ]
    assert found.kept == {"runs": 0, "adapters": 1, "results": 1}
    expected = 1000 + 300 + (tmp_path / "adapters" / ("a" * 64) / "manifest.json").stat().st_size
    assert found.size == expected
    assert free(tmp_path, found, before=BEFORE) == found.size
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock")
    assert left == ["adapter_model.safetensors", "manifest.json", "y.json"]
    assert find_garbage(tmp_path, [], before=BEFORE, promoted=set()).size == 0


def test_what_was_read_lately_is_recent(tmp_path: Path) -> None:
    file = result(tmp_path, "results/outputs/x.json", 400)
    os.utime(file, (NOW - DAY, NOW - 400 * DAY))
    adapter(tmp_path, "a", 400)
    os.utime(tmp_path / "adapters" / ("a" * 64) / "adapter_model.safetensors", (NOW - DAY, NOW - 400 * DAY))
    assert find_garbage(tmp_path, [], before=BEFORE, promoted=set()).size == 0


def test_looking_for_garbage_does_not_make_it_recent(tmp_path: Path) -> None:
    """The manifest is read for the digest; a file system that notes reading must not keep the adapter for that."""
    adapter(tmp_path, "a", 400)
    os.utime(tmp_path / "adapters" / ("a" * 64) / "manifest.json", (NOW, NOW - 400 * DAY))
    assert len(find_garbage(tmp_path, [], before=BEFORE, promoted=set()).adapters) == 1


def test_a_promoted_adapter_and_its_runs_never_go(tmp_path: Path) -> None:
    digest, other = adapter(tmp_path, "a", 4000), adapter(tmp_path, "b", 4000)
    runs = [run(tmp_path, 1, 4000, digest), run(tmp_path, 2, 4000, other), run(tmp_path, 3, 4000, None)]
    found = find_garbage(tmp_path, runs, before=BEFORE, promoted={digest})
    assert [one.path.name[0] for one in found.adapters] == ["b"]
    assert [one.name for one in found.runs] == [runs[1].run_id]  # of the third it is known to be the latest
    free(tmp_path, found, before=BEFORE)
    assert (tmp_path / "adapters" / ("a" * 64) / "adapter_model.safetensors").is_file()
    assert (tmp_path / "runs" / runs[0].run_id / "report.json").is_file()


def test_the_latest_run_of_each_recipe_and_its_adapter_stay(tmp_path: Path) -> None:
    digests = [adapter(tmp_path, name, 4000) for name in "abc"]
    runs = [
        run(tmp_path, 1, 4000, digests[0]),
        run(tmp_path, 2, 4000, digests[1]),
        run(tmp_path, 3, 4000, digests[2], recipe="animals"),
    ]
    found = find_garbage(tmp_path, runs, before=BEFORE, promoted=set())
    assert [one.name for one in found.runs] == [runs[0].run_id]
    assert [one.path.name[0] for one in found.adapters] == ["a"]


def test_an_adapter_of_a_recent_run_stays(tmp_path: Path) -> None:
    digest = adapter(tmp_path, "a", 4000)
    runs = [run(tmp_path, 1, 3, digest), run(tmp_path, 2, 2, None)]
    found = find_garbage(tmp_path, runs, before=BEFORE, promoted=set())
    assert (found.adapters, found.runs) == ((), ())


def test_an_adapter_without_a_manifest_is_garbage_like_any(tmp_path: Path) -> None:
    adapter(tmp_path, "a", 31)
    (tmp_path / "adapters" / ("a" * 64) / "manifest.json").unlink()
    (one,) = find_garbage(tmp_path, [], before=BEFORE, promoted=set()).adapters
    assert one.name == ""


def test_what_was_used_between_looking_and_freeing_stays(tmp_path: Path) -> None:
    adapter(tmp_path, "a", 31)
    file = result(tmp_path, "results/outputs/x.json", 31)
    found = find_garbage(tmp_path, [], before=BEFORE, promoted=set())
    for path in (file, tmp_path / "adapters" / ("a" * 64) / "adapter_model.safetensors"):
        os.utime(path, (NOW, NOW))
    assert free(tmp_path, found, before=BEFORE) == 0
    assert file.is_file()


def test_what_somebody_else_freed_is_no_error(tmp_path: Path) -> None:
    result(tmp_path, "results/outputs/x.json", 31).unlink()
    result(tmp_path, "results/outputs/y.json", 31)
    found = find_garbage(tmp_path, [], before=BEFORE, promoted=set())
    (tmp_path / "results" / "outputs" / "y.json").unlink()
    assert free(tmp_path, found, before=BEFORE) == 0


def test_a_store_without_rights_is_one_line(read_only_folder: Path) -> None:
    privileged = os.getuid() == 0
    if privileged:
        os.seteuid(0)
    read_only_folder.chmod(0o755)
    result(read_only_folder, "results/outputs/x.json", 31)
    found = find_garbage(read_only_folder, [], before=BEFORE, promoted=set())
    (read_only_folder / "tmp").mkdir(mode=0o777)
    (read_only_folder / "tmp").chmod(0o777)
    read_only_folder.chmod(0o555)
    if privileged:
        os.seteuid(65534)
    with pytest.raises(StoreError, match=r"x\.json: cannot be removed \(Permission denied\); make the store writable"):
        free(read_only_folder, found, before=BEFORE)
