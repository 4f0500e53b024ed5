"""What is printed is safe for terminals and for logs of GitHub Actions, whatever the text."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from harness.cli.output import Output, shown
from harness.errors import RecipeError, StoreError


def stream(encoding: str = "utf-8") -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding, newline="\n")


def printed(text: str, encoding: str = "utf-8") -> str:
    raw, out = stream(encoding)
    Output(out, out).line(text)
    out.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, Größe 木", "plain, Größe 木"),
        ("\x1b[31mred", "␛[31mred"),
        ("two\nlines", "two␊lines"),
        ("C1 \x9b2J", "C1 [U+009B]2J"),
        ("turned \u202e", "turned [U+202E]"),
        ("half \udcff", "half [U+DCFF]"),
        ("::error::stop", ": :error::stop"),
        ("  ::error::stop", "  : :error::stop"),
        ("so ##[error]stop", "so ## [error]stop"),
        ("tests/a.py::test_b", "tests/a.py::test_b"),
    ],
    ids=ascii,
)
def test_a_line_is_one_harmless_line(text: str, expected: str) -> None:
    assert printed(text) == f"{expected}\n"


def test_a_terminal_of_another_encoding() -> None:
    assert printed("Größe", "ascii") == "Gr\\xf6\\xdfe\n"


def test_problems_are_a_line_each() -> None:
    raw, err = stream()
    output = Output(io.StringIO(), err)
    output.error(RecipeError(["first", "second\nhalf"]))
    output.error(StoreError("third\nhalf"))
    err.flush()
    assert raw.getvalue().decode() == "error: first\nerror: second␊half\nerror: third␊half\n"


@pytest.mark.parametrize("as_yaml", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("text", ["Größe", "\x1b[0m", "::a", "#\\##[b", "a\n  ::c\n", "\u2028", "\x85", "\ufeff"])
def test_values_read_back(text: str, encoding: str, as_yaml: bool) -> None:
    raw, out = stream(encoding)
    values = {"a": text, text: [text, {"n": 1e-05, "none": None}], "no": "1e3"}
    Output(out, out).values(values, as_yaml=as_yaml)
    out.flush()
    document = raw.getvalue().decode(encoding)
    assert (yaml.safe_load(document) if as_yaml else json.loads(document)) == values
    assert document.endswith("\n")
    assert not document.endswith("\n\n")


def test_shown_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b") == "a/b"
    assert shown(Path("a")) == "a"
    assert shown(tmp_path.parent / "c") == str(tmp_path.parent / "c")
