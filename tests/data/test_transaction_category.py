"""The transaction_category data set holds what its card promises, recomputed from the committed files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "fixtures" / "data" / "transaction_category"
RECIPE = ROOT / "fixtures" / "recipes" / "transaction_category.yaml"
SIZES = {"train": 600, "validation": 96, "test": 360}
TEXT = re.compile(r"\S.*\S \| (in|out) \| (<50|50-250|250-1k|1k-5k|>5k) \| (-|\S.*\S)")

Row = dict[str, Any]
Splits = dict[str, list[Row]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return {
        split: [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text("utf-8").splitlines()]
        for split in SIZES
    }


@pytest.fixture(scope="module")
def rows(splits: Splits) -> list[Row]:
    return [row for split in splits.values() for row in split]


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(RECIPE.read_text("utf-8"))
    return loaded


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(DATA, tmp_path / "data", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "data"


def generate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def skeleton(text: str) -> str:
    """The text without letter case and without any word that holds a digit."""
    return " ".join(re.sub(r"\S*\d\S*", " ", text.casefold()).split())


# --- rows ---


def test_sizes(splits: Splits) -> None:
    assert {split: len(split_rows) for split, split_rows in splits.items()} == SIZES


def test_ids_number_the_rows(splits: Splits) -> None:
    for split, split_rows in splits.items():
        expected = [f"tc-{split}-{number:04d}" for number in range(1, SIZES[split] + 1)]
        assert [row["id"] for row in split_rows] == expected


def test_keys_stand_in_the_documented_order(rows: list[Row]) -> None:
    for row in rows:
        assert list(row) == ["id", "text", "label", "group", "slices"]
        assert list(row["slices"]) == ["seen_merchant", "ambiguous"]


def test_text_has_four_fields(rows: list[Row]) -> None:
    malformed = [row["text"] for row in rows if not TEXT.fullmatch(row["text"])]
    assert malformed == []
    assert [row["text"] for row in rows if row["text"].count(" | ") != 3] == []
    assert [row["text"] for row in rows if re.search(r"[{}~!@]|  ", row["text"])] == []


def test_texts_are_short(rows: list[Row]) -> None:
    # 80 characters stay under 40 tokens of the base model's tokenizer (36 at most when this was written).
    assert max(len(row["text"]) for row in rows) <= 80


def test_no_text_repeats_another_even_without_case_and_numbers(rows: list[Row]) -> None:
    repeated = [text for text, count in Counter(skeleton(row["text"]) for row in rows).items() if count > 1]
    assert repeated == []


# --- labels ---


def test_every_split_has_every_label_of_the_recipe(splits: Splits, recipe: dict[str, Any]) -> None:
    labels = recipe["data"]["labels"]
    assert len(labels) == len(set(labels)) == 12
    for split, least in {"train": 30, "validation": 6, "test": 20}.items():
        counts = Counter(row["label"] for row in splits[split])
        assert set(counts) == set(labels)
        assert min(counts.values()) >= least


def test_the_label_is_rarely_spelled_out(rows: list[Row]) -> None:
    spelled = [
        row["text"]
        for row in rows
        if any(re.search(rf"\b{word}s?\b", row["text"].lower()) for word in row["label"].split("_"))
    ]
    assert len(spelled) < 0.10 * len(rows)


def test_money_in_does_not_give_the_label_away(splits: Splits) -> None:
    labels_in = {row["label"] for row in splits["train"] if " | in | " in row["text"]}
    assert {"customer_payout", "office_supplies", "shipping", "software", "taxes", "travel"} <= labels_in
    assert any(row["label"] == "customer_payout" and " | out | " in row["text"] for row in splits["train"])


# --- merchants and slices ---


def test_merchants_are_many(rows: list[Row]) -> None:
    assert len({row["group"] for row in rows}) >= 150


def test_seen_merchant_says_whether_train_has_the_merchant(splits: Splits) -> None:
    known = {row["group"] for row in splits["train"]}
    for split_rows in splits.values():
        for row in split_rows:
            assert row["slices"]["seen_merchant"] == ("yes" if row["group"] in known else "no"), row["id"]


def test_a_third_of_the_test_rows_has_merchants_of_no_other_split(splits: Splits) -> None:
    elsewhere = {row["group"] for split in ("train", "validation") for row in splits[split]}
    unknown = [row for row in splits["test"] if row["group"] not in elsewhere]
    assert len(unknown) == 120
    assert {row["slices"]["seen_merchant"] for row in unknown} == {"no"}
    assert {row["slices"]["seen_merchant"] for row in splits["validation"]} == {"yes"}


def test_ambiguous_says_whether_the_merchant_has_several_labels(rows: list[Row]) -> None:
    labels_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels_of[row["group"]].add(row["label"])
    for row in rows:
        assert row["slices"]["ambiguous"] == ("yes" if len(labels_of[row["group"]]) > 1 else "no"), row["id"]


def test_every_slice_is_large_enough_to_measure(splits: Splits) -> None:
    for split_rows in splits.values():
        ambiguous = sum(row["slices"]["ambiguous"] == "yes" for row in split_rows)
        assert 0.25 <= ambiguous / len(split_rows) <= 0.75
    cells = Counter(tuple(row["slices"].values()) for row in splits["test"])
    assert min(cells.values()) >= 40
    assert len(cells) == 4


# --- the recipe ---


def test_recipe_reads_these_files_and_offers_every_label(recipe: dict[str, Any]) -> None:
    data = recipe["data"]
    for split in SIZES:
        assert (RECIPE.parent / data[split]).resolve() == DATA / f"{split}.jsonl"
    listed = data["system"].split(": ")[1].split(".")[0].replace("\n", " ").split(", ")
    assert listed == data["labels"]


# --- the generator ---


def test_check_accepts_the_committed_files() -> None:
    outcome = generate(DATA, "--check")
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_generator_writes_the_same_bytes_elsewhere(copied: Path) -> None:
    for split in SIZES:
        (copied / f"{split}.jsonl").unlink()
    assert generate(copied).returncode == 0
    for split in SIZES:
        assert (copied / f"{split}.jsonl").read_bytes() == (DATA / f"{split}.jsonl").read_bytes()


def test_check_names_the_file_that_differs(copied: Path) -> None:
    path = copied / "test.jsonl"
    edited = path.read_bytes().replace(b'"taxes"', b'"meals"', 1)
    path.write_bytes(edited)
    outcome = generate(copied, "--check")
    assert outcome.returncode == 1
    assert outcome.stderr == "differs from what generate.py makes: test.jsonl. Run: python generate.py\n"
    assert path.read_bytes() == edited


def test_generator_refuses_other_arguments(copied: Path) -> None:
    outcome = generate(copied, "--chekc")
    assert outcome.returncode == 2
    assert outcome.stderr == "generate.py: takes --check or nothing, got --chekc\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("acme | meals | out | <50 | pos | ACME", "a use has 7 fields, found 6. Separate them by ' | '."),
        ("acme | snacks | out | <50 | pos | ACME | lunch", "unknown label, band or channel. "),
        ("acme | meals | out | <60 | pos | ACME | lunch", "unknown label, band or channel. "),
        ("acme | meals | out | <50 | fax | ACME | lunch", "unknown label, band or channel. "),
        ("acme | meals | out | <50 | pos | ACME | -", "a use needs a memo other than '-'."),
        ("acme | meals | out | <50 | pos | ACME | lunch {day}", "unknown slot {day}. "),
    ],
)
def test_generator_explains_a_bad_line_of_the_catalogue(copied: Path, line: str, message: str) -> None:
    catalogue = copied / "merchants.txt"
    marker = "=== seen\n"
    catalogue.write_text(catalogue.read_text("utf-8").replace(marker, f"{marker}{line}\n"), "utf-8")
    outcome = generate(copied)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("merchants.txt:")
    assert message in outcome.stderr


def test_generator_says_which_label_has_too_few_texts(copied: Path) -> None:
    catalogue = copied / "merchants.txt"
    lines = catalogue.read_text("utf-8").splitlines()
    kept = [line for line in lines if " | taxes" not in line or line.startswith(("irs | ", "ca ftb | "))]
    catalogue.write_text("\n".join(kept) + "\n", "utf-8")
    outcome = generate(copied)
    assert outcome.returncode == 1
    assert re.fullmatch(r"merchants\.txt: taxes ran out of texts at \d+ of \d+\. Add memos\.\n", outcome.stderr)


def test_generator_says_which_label_has_no_unseen_merchant(copied: Path) -> None:
    catalogue = copied / "merchants.txt"
    seen, marker, unseen = catalogue.read_text("utf-8").partition("=== unseen\n")
    kept = [line for line in unseen.splitlines() if " | taxes" not in line]
    catalogue.write_text(seen + marker + "\n".join(kept) + "\n", "utf-8")
    outcome = generate(copied)
    assert outcome.returncode == 1
    assert outcome.stderr == (
        "merchants.txt: no use below '=== unseen' for taxes. Every label needs seen and unseen merchants.\n"
    )


def test_generator_says_when_train_cannot_hold_every_use(copied: Path) -> None:
    catalogue = copied / "merchants.txt"
    extra = "".join(f"acme {n} | taxes | out | <50 | ct | ACME {n} | vat\n" for n in range(34))
    marker = "=== seen\n"
    catalogue.write_text(catalogue.read_text("utf-8").replace(marker, marker + extra), "utf-8")
    outcome = generate(copied)
    assert outcome.returncode == 1
    assert re.fullmatch(r"merchants\.txt: taxes has \d+ uses for 34 train rows\. Remove some\.\n", outcome.stderr)
