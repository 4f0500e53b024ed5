"""The shipped data set postgres_assistant keeps what its data card promises."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

FIXTURES = Path(__file__).parents[2] / "fixtures"
DATA = FIXTURES / "data" / "postgres_assistant"
ROWS = {"train": 150, "validation": 20, "test": 60}
TOPICS = {
    "administration",
    "indexes",
    "json",
    "monitoring",
    "partitioning",
    "querying",
    "schema",
    "writing",
}
# Major versions were numbered x.y up to 9.6 and are whole numbers since 10.
LAST_LINE = re.compile(r"Minimum version: PostgreSQL (8\.[0-4]|9\.[0-6]|1[0-8])")

Row = dict[str, Any]


def read(name: str) -> list[Row]:
    lines = (DATA / name).read_text(encoding="utf-8").split("\n")
    assert lines.pop() == "", f"{name} must end with a newline"
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Row]]:
    return {split: read(f"{split}.jsonl") for split in ROWS}


@pytest.fixture(scope="module")
def rows(splits: dict[str, list[Row]]) -> list[Row]:
    return [row for split in splits.values() for row in split]


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    return {row["group"]: row["minimum_version"] for row in read("versions.jsonl")}


def question(row: Row) -> str:
    return str(row["messages"][1]["content"])


def answer(row: Row) -> str:
    return str(row["messages"][2]["content"])


def test_counts_and_ids(splits: dict[str, list[Row]]) -> None:
    assert {split: len(found) for split, found in splits.items()} == ROWS
    for split, found in splits.items():
        assert [row["id"] for row in found] == [f"pg-{split}-{n:03d}" for n in range(1, ROWS[split] + 1)]


def test_rows_have_one_form(rows: list[Row]) -> None:
    for row in rows:
        assert list(row) == ["id", "messages", "group", "slices"], row["id"]
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"], row["id"]
        assert re.fullmatch(r"[a-z0-9_]+", row["group"]), row["id"]
        assert list(row["slices"]) == ["topic"], row["id"]
        assert row["slices"]["topic"] in TOPICS, row["id"]
    assert len({row["messages"][0]["content"] for row in rows}) == 1


def test_questions_and_answers_are_unique(rows: list[Row]) -> None:
    def words(text: str) -> str:
        return " ".join(re.findall(r"\w+", text.lower()))

    for text in (question, answer):
        repeated = [text for text, n in Counter(words(text(row)) for row in rows).items() if n > 1]
        assert not repeated


def test_last_line_states_the_version_of_the_group(rows: list[Row], versions: dict[str, str]) -> None:
    for row in rows:
        last = LAST_LINE.fullmatch(answer(row).split("\n")[-1])
        assert last, f"{row['id']}: no version on the last line"
        assert last[1] == versions[row["group"]], row["id"]
        assert answer(row).count("Minimum version") == 1, row["id"]


def test_versions_cover_exactly_the_groups(rows: list[Row], versions: dict[str, str]) -> None:
    listed = read("versions.jsonl")
    assert len(versions) == len(listed)
    assert set(versions) == {row["group"] for row in rows}
    for entry in listed:
        assert list(entry) == ["group", "minimum_version", "source"]
        notes = f"PostgreSQL {entry['minimum_version']} release notes; documentation: "
        assert entry["source"].startswith(notes)


def test_lengths(rows: list[Row]) -> None:
    # Characters stand in for tokens, which would need a tokenizer: about three to a token in these texts.
    for row in rows:
        assert 20 <= len(question(row)) <= 135, row["id"]
        assert 130 <= len(answer(row)) <= 300, row["id"]


def test_code_blocks_are_closed(rows: list[Row]) -> None:
    for row in rows:
        assert answer(row).count("```") in (0, 2), row["id"]
        assert re.sub(r"```.*?```", "", answer(row), flags=re.DOTALL).count("`") % 2 == 0, row["id"]


def test_half_of_the_test_features_are_unseen(splits: dict[str, list[Row]]) -> None:
    train = {row["group"] for row in splits["train"]}
    test = {row["group"] for row in splits["test"]}
    assert len(test - train) >= len(test) / 2
    assert test & train, "some features must be seen, or nothing about learning can be measured"


def test_every_topic_is_in_train_and_test(splits: dict[str, list[Row]]) -> None:
    for split in ("train", "test"):
        assert {row["slices"]["topic"] for row in splits[split]} == TOPICS


def test_data_card_counts(splits: dict[str, list[Row]], versions: dict[str, str]) -> None:
    card = (DATA / "README.md").read_text(encoding="utf-8")
    groups = {split: {row["group"] for row in found} for split, found in splits.items()}
    assert f"| `train.jsonl` | 150 | {len(groups['train'])} |" in card
    for split in ("validation", "test"):
        n, unseen = len(groups[split]), len(groups[split] - groups["train"])
        assert f"| `{split}.jsonl` | {ROWS[split]} | {n}, of which {unseen} are not in train |" in card
    assert f"| `versions.jsonl` | {len(versions)} |" in card
    topics = {split: Counter(row["slices"]["topic"] for row in found) for split, found in splits.items()}
    for topic in TOPICS:
        assert f"| {topic} | " + " | ".join(str(topics[split][topic]) for split in ROWS) + " |" in card


def test_recipe_points_to_the_data() -> None:
    path = FIXTURES / "recipes" / "postgres_assistant.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert recipe["name"] == path.stem
    assert recipe["data"]["task"] == "chat"
    for split in ROWS:
        assert (path.parent / recipe["data"][split]).resolve() == DATA / f"{split}.jsonl"


def test_rubric_anchors_every_grade() -> None:
    rubric = yaml.safe_load((FIXTURES / "rubrics" / "postgres_assistant.yaml").read_text(encoding="utf-8"))
    assert rubric["show_reference"] is True
    names = [criterion["name"] for criterion in rubric["criteria"]]
    assert names == ["correctness", "minimum_version", "completeness", "concision"]
    # 0.4 + 0.3 + 0.15 + 0.15
    assert sum(criterion["weight"] for criterion in rubric["criteria"]) == pytest.approx(1.0)
    for criterion in rubric["criteria"]:
        assert list(criterion["anchors"]) == [1, 2, 3, 4, 5]
