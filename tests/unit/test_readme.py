"""README and docs name every option and fixture, and link only to what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import harness.pytest_plugin as plugin
from harness.pytest_plugin.options import add_options
from harness.records import Outcome
from harness.report import read_report

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


class RecordingParser:
    """Stands where pytest's parser does and keeps the names that are added."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def getgroup(self, *_: str) -> RecordingParser:
        return self

    def addoption(self, name: str, **_: Any) -> None:
        self.names.append(name)

    def addini(self, name: str, *_: str, **__: Any) -> None:
        self.names.append(name)


def option_names() -> list[str]:
    parser = RecordingParser()
    add_options(parser)  # type: ignore[arg-type]
    return parser.names


@pytest.mark.parametrize("name", option_names())
def test_every_option_and_ini_key_is_in_the_readme(name: str) -> None:
    assert re.search(rf"`{re.escape(name)}\b", README)


@pytest.mark.parametrize("name", plugin.__all__)
def test_every_fixture_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert missing == []


def test_every_page_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / t).resolve() for t in targets if not t.startswith("http")]
    assert set(PAGES) <= seen


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)


def test_the_recipe_in_the_readme_is_the_one_that_is_shipped() -> None:
    """The README shortens the labels; what it says of the training is what runs."""
    shipped = (ROOT / "fixtures" / "recipes" / "transaction_category.yaml").read_text(encoding="utf-8")
    for key in ("base", "quantization", "lora", "training"):
        pattern = rf"^{key}: (\{{.*?\}})"
        (ours,) = re.findall(pattern, shipped, flags=re.MULTILINE)
        (shown,) = re.findall(pattern, README, flags=re.MULTILINE)
        assert shown == ours


def test_the_example_report_can_be_read_and_passed() -> None:
    """It is what README shows, so it has today's schema."""
    run = read_report((ROOT / "reports" / "example" / "report.json").read_text(encoding="utf-8"))
    assert run.outcome is Outcome.PASS
    assert {recipe.name for recipe in run.recipes} == {"postgres_assistant", "ticket_priority", "transaction_category"}
