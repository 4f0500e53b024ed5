"""Capability task files: what is read, and one clear line for each that the harness does not run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.engine.task_files import find_task
from harness.errors import CapabilityError

TASK = """\
task: facts
dataset_path: json
dataset_kwargs: {data_files: {test: facts.jsonl, train: more.jsonl}}
output_type: multiple_choice
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "facts.yaml").write_text(TASK)
    (tmp_path / "facts.jsonl").write_text('{"id": "a", "gold": 0}\n{"id": "b", "gold": 1}\n')
    (tmp_path / "more.jsonl").write_text('{"id": "c", "gold": 1}\n')
    return tmp_path


def test_a_task_comes_with_its_data(folder: Path) -> None:
    task = find_task("facts", folder)
    assert task is not None
    assert task.config["output_type"] == "multiple_choice"
    assert task.rows == {
        "test": ({"id": "a", "gold": 0}, {"id": "b", "gold": 1}),
        "train": ({"id": "c", "gold": 1},),
    }


@pytest.mark.parametrize("place", ["folder", "empty", None])
def test_no_file_is_no_task(folder: Path, tmp_path: Path, place: str | None) -> None:
    where = {"folder": folder, "empty": tmp_path / "empty", None: None}[place]
    assert find_task("other", where) is None


def test_the_digest_is_of_all_contents(folder: Path) -> None:
    def digest() -> str:
        task = find_task("facts", folder)
        assert task is not None
        return task.digest

    seen = [digest()]
    assert digest() == seen[0]
    data = folder / "facts.jsonl"
    before = data.stat()
    data.write_text(data.read_text().replace('"gold": 1', '"gold": 0'))
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time: still noticed
    assert data.stat().st_size == before.st_size
    seen.append(digest())
    (folder / "more.jsonl").write_text('{"id": "c", "gold": 0}\n')
    seen.append(digest())
    (folder / "facts.yaml").write_text(TASK + "num_fewshot: 0\n")
    seen.append(digest())
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task: [",
            r"facts\.yaml: not a task file that the harness runs \(.*\)\. Use plain YAML; !function is refused",
        ),
        (TASK + "process_docs: !function code.run\n", r"facts\.yaml: not a task file .*!function is refused"),
        ("- facts\n", r"facts\.yaml: `task: facts` is expected, as the file is named"),
        ("", r"facts\.yaml: `task: facts` is expected"),
        (TASK.replace("task: facts", "task: fact"), r"facts\.yaml: `task: facts` is expected"),
        (TASK.replace("json\n", "cais/mmlu\n"), r"dataset_path must be json, with data_files beside the task file"),
        ("task: facts\n", r"dataset_path must be json"),
        ("task: facts\ndataset_path: json\n", r"data_files must map a split to a file, e\.g\. test: data\.jsonl"),
        (
            "task: facts\ndataset_path: json\ndataset_kwargs: {data_files: facts.jsonl}\n",
            r"data_files must map a split",
        ),
        ("task: facts\ndataset_path: json\ndataset_kwargs: [1]\n", r"data_files must map a split"),
        (
            TASK.replace("more.jsonl", "absent.jsonl"),
            r"absent\.jsonl: No such file or directory; data_files of .*facts\.yaml names it",
        ),
    ],
)
def test_a_wrong_task_file_is_one_line(folder: Path, text: str, message: str) -> None:
    (folder / "facts.yaml").write_text(text)
    with pytest.raises(CapabilityError, match=message) as error:
        find_task("facts", folder)
    assert "\n" not in str(error.value)


def test_a_task_file_that_is_not_utf8_is_one_line(folder: Path) -> None:
    (folder / "facts.yaml").write_bytes(b"task: \xff\n")
    with pytest.raises(CapabilityError, match=r"facts\.yaml: not a task file that the harness runs \('utf-8'"):
        find_task("facts", folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "a"}\n{"id": \n', r"facts\.jsonl:2: not JSON: "),
        (b'{"id": "a"}\n\xff\n', r"facts\.jsonl:2: not JSON: "),
        (b'["a"]\n', r"facts\.jsonl:1: an object is expected, got list\."),
        (b"", r"facts\.jsonl: the file is empty\."),
        (
            b'{"id": "a"}\n{"id": "b"}\n{"id": "a"}\n',
            r"facts\.jsonl:3: id \"a\" is also that of line 1; give each item an id of its own",
        ),
    ],
)
def test_wrong_data_is_one_line(folder: Path, content: bytes, message: str) -> None:
    (folder / "facts.jsonl").write_bytes(content)
    with pytest.raises(CapabilityError, match=message):
        find_task("facts", folder)


def test_items_need_no_id(folder: Path) -> None:
    (folder / "facts.jsonl").write_text("\n".join(json.dumps({"gold": k}) for k in (0, 1, 0)))
    task = find_task("facts", folder)
    assert task is not None
    assert len(task.rows["test"]) == 3
