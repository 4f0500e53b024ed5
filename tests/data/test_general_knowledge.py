"""The capability task general_knowledge: is the file well formed, balanced, and readable by lm-eval?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

CAPABILITY = Path(__file__).resolve().parents[2] / "fixtures" / "capability"
DATA = CAPABILITY / "general_knowledge.jsonl"
TASK = CAPABILITY / "general_knowledge.yaml"

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    # safe_load refuses `!function`, so a task that runs code when it is loaded does not get past here.
    loaded: dict[str, Any] = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    return loaded


def test_file_has_300_rows_in_canonical_form(rows: list[Row]) -> None:
    assert len(rows) == 300
    assert DATA.read_text(encoding="utf-8") == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for row in rows:
        assert list(row) == ["id", "question", "choices", "gold", "topic"], row["id"]
        assert row["question"].endswith("?"), row["id"]


def test_ids_and_questions_are_unique(rows: list[Row]) -> None:
    assert [row["id"] for row in rows] == [f"gk-{number:03d}" for number in range(1, 301)]
    repeated = Counter(" ".join(row["question"].lower().split()) for row in rows)
    assert [question for question, times in repeated.items() if times > 1] == []


def test_every_question_has_four_distinct_choices(rows: list[Row]) -> None:
    for row in rows:
        choices = row["choices"]
        assert len(choices) == 4, row["id"]
        assert len({choice.lower() for choice in choices}) == 4, row["id"]
        # A blank at either end would change the tokens that are scored.
        assert all(choice and choice == choice.strip() for choice in choices), row["id"]
        assert type(row["gold"]) is int, row["id"]
        assert 0 <= row["gold"] < 4, row["id"]


def test_no_position_is_favoured(rows: list[Row]) -> None:
    golds = Counter(row["gold"] for row in rows)
    assert set(golds) == {0, 1, 2, 3}
    assert all(60 <= times <= 90 for times in golds.values()), golds


@pytest.mark.parametrize("extreme", [max, min])
def test_length_does_not_give_the_answer_away(rows: list[Row], extreme: Callable[[Iterable[int]], int]) -> None:
    """Always taking the longest (or the shortest) choice, ties drawn at random, is about chance."""
    expected_correct = 0.0
    for row in rows:
        lengths = [len(choice) for choice in row["choices"]]
        wanted = extreme(lengths)
        if lengths[row["gold"]] == wanted:
            expected_correct += 1 / lengths.count(wanted)
    assert 0.15 <= expected_correct / len(rows) <= 0.40


def test_gold_is_the_single_longest_choice_neither_often_nor_hardly_ever(rows: list[Row]) -> None:
    longest = 0
    for row in rows:
        lengths = [len(choice) for choice in row["choices"]]
        longest += lengths[row["gold"]] > max(lengths[: row["gold"]] + lengths[row["gold"] + 1 :])
    assert 0.15 <= longest / len(rows) <= 0.40


def test_topics_are_varied(rows: list[Row]) -> None:
    topics = Counter(row["topic"] for row in rows)
    assert len(topics) >= 8
    assert min(topics.values()) >= 20, topics


def test_yaml_names_its_data_by_a_bare_file_name(config: dict[str, Any]) -> None:
    # The harness resolves the name against the YAML's own directory; an absolute path would not travel.
    assert config["dataset_kwargs"]["data_files"] == {"test": DATA.name}


def test_lm_eval_reads_300_documents(config: dict[str, Any], rows: list[Row], tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(CAPABILITY), include_defaults=False)
    assert "general_knowledge" in manager.all_tasks

    # A cache of its own: `datasets` serves stale rows when an edited file keeps its size and time.
    source = {"data_files": {"test": str(DATA)}, "cache_dir": str(tmp_path / "datasets")}
    task = manager.load({**config, "dataset_kwargs": source})["tasks"]["general_knowledge"]

    documents = list(task.test_docs())
    assert len(documents) == 300
    for document, row in zip(documents, rows, strict=True):
        assert task.doc_to_text(document) == f"Question: {row['question']}\nAnswer:"
        assert task.doc_to_choice(document) == row["choices"]
        assert task.doc_to_target(document) == row["gold"]
    assert task.config.output_type == "multiple_choice"
    assert {metric["metric"] for metric in task.config.metric_list} == {"acc", "acc_norm"}
