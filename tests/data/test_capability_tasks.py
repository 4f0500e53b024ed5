"""The lm-eval tasks `commonsense` and `grammar`: sizes, balance, distinct texts, loading in lm-eval."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

CAPABILITY = Path(__file__).resolve().parents[2] / "fixtures" / "capability"
SIZES = {"commonsense": 200, "grammar": 300}
KEYS = {
    "commonsense": ["id", "context", "choices", "gold", "topic"],
    "grammar": ["id", "good", "bad", "choices", "gold", "phenomenon"],
}


def read_rows(task: str) -> list[dict[str, Any]]:
    lines = (CAPABILITY / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module", params=sorted(SIZES))
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def commonsense() -> list[dict[str, Any]]:
    return read_rows("commonsense")


@pytest.fixture(scope="module")
def grammar() -> list[dict[str, Any]]:
    return read_rows("grammar")


def test_rows_have_the_documented_keys_and_ids(task: str) -> None:
    rows = read_rows(task)
    prefix = {"commonsense": "cs", "grammar": "gr"}[task]
    assert [row["id"] for row in rows] == [f"{prefix}-{n:03d}" for n in range(1, SIZES[task] + 1)]
    assert all(list(row) == KEYS[task] for row in rows)


def test_file_is_plain_json_lines(task: str) -> None:
    text = (CAPABILITY / f"{task}.jsonl").read_bytes().decode("utf-8")
    assert text == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in read_rows(task))


def test_two_different_choices_and_balanced_gold(task: str) -> None:
    rows = read_rows(task)
    assert all(len(set(row["choices"])) == 2 and all(row["choices"]) for row in rows)
    assert Counter(row["gold"] for row in rows) == {0: SIZES[task] // 2, 1: SIZES[task] // 2}


def test_no_stray_whitespace(task: str) -> None:
    for row in read_rows(task):
        for text in [*row["choices"], row.get("context", "")]:
            assert text == " ".join(text.split()), row["id"]
            assert " ?" not in text, row["id"]
            assert " ." not in text, row["id"]


def test_commonsense_contexts_are_unique(commonsense: list[dict[str, Any]]) -> None:
    assert len({row["context"].casefold() for row in commonsense}) == 200


def test_commonsense_has_ten_topics_each_balanced(commonsense: list[dict[str, Any]]) -> None:
    counts = Counter((row["topic"], row["gold"]) for row in commonsense)
    assert len({topic for topic, _ in counts}) == 10
    assert set(counts.values()) == {10}


def test_commonsense_length_does_not_give_the_answer_away(commonsense: list[dict[str, Any]]) -> None:
    """Picking the longer ending, or the shorter one, must be right about as often as a coin."""
    lengths = [(len(row["choices"][row["gold"]]), len(row["choices"][1 - row["gold"]])) for row in commonsense]
    assert max(max(pair) / min(pair) for pair in lengths) <= 1.5
    longer = sum(gold > other for gold, other in lengths)
    shorter = sum(gold < other for gold, other in lengths)
    assert 0.45 <= longer / (longer + shorter) <= 0.55


def test_grammar_sentences_are_unique(grammar: list[dict[str, Any]]) -> None:
    sentences = [row[side].casefold() for row in grammar for side in ("good", "bad")]
    assert len(set(sentences)) == 600


def test_grammar_gold_points_at_the_good_sentence(grammar: list[dict[str, Any]]) -> None:
    for row in grammar:
        assert row["choices"][row["gold"]] == row["good"], row["id"]
        assert row["choices"][1 - row["gold"]] == row["bad"], row["id"]


def test_grammar_has_fifteen_phenomena_each_balanced(grammar: list[dict[str, Any]]) -> None:
    counts = Counter((row["phenomenon"], row["gold"]) for row in grammar)
    assert len({phenomenon for phenomenon, _ in counts}) == 15
    assert set(counts.values()) == {10}


def test_grammar_pairs_are_minimal(grammar: list[dict[str, Any]]) -> None:
    """Good and bad differ by at most one word in length, and share at least half of their words."""
    for row in grammar:
        good, bad = row["good"].split(), row["bad"].split()
        assert abs(len(good) - len(bad)) <= 1, row["id"]
        shared = (Counter(good) & Counter(bad)).total()
        assert shared >= min(len(good), len(bad)) / 2, row["id"]


def run_generator(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "generate_grammar.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_committed_grammar_is_what_the_generator_writes() -> None:
    result = run_generator(CAPABILITY, "--check")
    assert result.returncode == 0, result.stderr


def test_generator_check_fails_on_an_edited_or_missing_file(tmp_path: Path) -> None:
    source = (CAPABILITY / "generate_grammar.py").read_text(encoding="utf-8")
    (tmp_path / "generate_grammar.py").write_text(source, encoding="utf-8")
    missing = run_generator(tmp_path, "--check")
    assert missing.returncode == 1
    assert "Run: python fixtures/capability/generate_grammar.py" in missing.stderr

    assert run_generator(tmp_path).returncode == 0
    written = tmp_path / "grammar.jsonl"
    assert written.read_bytes() == (CAPABILITY / "grammar.jsonl").read_bytes()

    written.write_text(written.read_text(encoding="utf-8").replace("gr-001", "gr-999"), encoding="utf-8")
    assert run_generator(tmp_path, "--check").returncode == 1


def read_config(task: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((CAPABILITY / f"{task}.yaml").read_text(encoding="utf-8"))
    return config


def test_yaml_names_a_bare_local_file_and_runs_no_code(task: str) -> None:
    assert "!function" not in (CAPABILITY / f"{task}.yaml").read_text(encoding="utf-8")
    config = read_config(task)
    assert config["task"] == task
    assert config["dataset_kwargs"] == {"data_files": {"test": f"{task}.jsonl"}}


def test_lm_eval_loads_the_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the data path made absolute, as the harness does, every row is a document with its own choices."""
    import datasets
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    manager = TaskManager(include_path=str(CAPABILITY), include_defaults=False)
    assert task in manager.all_tasks
    config = read_config(task)
    config["dataset_kwargs"]["data_files"]["test"] = str(CAPABILITY / f"{task}.jsonl")
    loaded = manager.load([config])["tasks"][task]
    documents = list(loaded.test_docs())
    rows = read_rows(task)
    assert [document["id"] for document in documents] == [row["id"] for row in rows]
    first = rows[0]
    assert loaded.doc_to_text(documents[0]) == first.get("context", "")
    assert loaded.doc_to_choice(documents[0]) == first["choices"]
    assert loaded.doc_to_target(documents[0]) == first["gold"]
