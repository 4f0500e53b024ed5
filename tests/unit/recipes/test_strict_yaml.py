"""What the YAML reader accepts, and the one line it refuses the rest with."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import RecipeError
from harness.recipes.strict_yaml import MAX_BYTES, MAX_DEPTH, read_mapping


def read(tmp_path: Path, content: str | bytes) -> dict[str, Any]:
    path = tmp_path / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_mapping(path)


def refusal(tmp_path: Path, content: str | bytes) -> str:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, content)
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5E-4", 0.0005),
        ("5.0e-4", 0.0005),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("2026-01-02", "2026-01-02"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("all-linear", "all-linear"),
        ("[1, a, [2.5]]", [1, "a", [2.5]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        (">-\n  folded\n  text\n", "folded text"),
    ],
)
def test_values_follow_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfkey: 1\n") == {"key": 1}


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key a stands here again, first on line 1; remove one"),
        ("a:\n  b: 1\n  b: 2\n", 3, "the key b stands here again, first on line 2; remove one"),
        ("a: {b: 1, b: 2}\n", 1, "the key b stands here again"),
        ("a: .nan\n", 1, ".nan is not a number that a recipe can use; write a finite one"),
        ("x: 1\na: -.inf\n", 2, "-.inf is not a number that a recipe can use; write a finite one"),
        ("a: 1e999\n", 1, "1e999 is too large for a number; write a finite one"),
        (f"a: {'9' * 30}\n", 1, "a number of 30 digits; write at most 20"),
        ("a: &x 1\n", 1, "the anchor &x is not allowed; write the value out, or use extends"),
        ("a: &x {b: 1}\n", 1, "the anchor &x is not allowed"),
        ("a: 1\nb: *x\n", 2, "the alias *x is not allowed; write the value out, or use extends"),
        ("*x : 1\n", 1, "the alias *x is not allowed"),
        ("a: !!str 1\n", 1, "the tag !!str is not allowed; write a plain value"),
        (
            "a: !!python/object/apply:os.system ['true']\n",
            1,
            "the tag !!python/object/apply:os.system is not",
        ),
        ("a: !mine [1]\n", 1, "the tag !mine is not allowed"),
        ("!!map {a: 1}\n", 1, "the tag !!map is not allowed"),
        (
            "a: " + "[" * 30 + "]" * 30 + "\n",
            1,
            f"nested deeper than {MAX_DEPTH} levels; a recipe needs at most 4",
        ),
        ("a: 1\n---\nb: 2\n", 2, "a second document starts here; keep one recipe in a file"),
        ("- a\n- b\n", 1, "a recipe must be a mapping; write lines of the form key: value"),
        ("just a text\n", 1, "a recipe must be a mapping"),
        ("1: a\n", 1, "a key must be a text; put it in quotes, or check the indentation"),
        ("a: 1\n[b]: a\n", 2, "a key must be a text"),
        ("", 1, "the file is empty; a recipe starts with its name"),
        ("# only a comment\n", 1, "the file is empty"),
        ("a: 1\n\tb: 2\n", 2, "a tab stands where YAML wants spaces; indent with spaces"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML ("),
        ("a: 'open\n", 2, "not valid YAML ("),
        ("a: b: c\n", 1, "not valid YAML ("),
        (b"a: 1\nb: caf\xe9\n", 2, "byte 0xE9 is not UTF-8; save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "byte 0xFF is not UTF-8"),
        ("a: 1\nb: \x00\n", 2, "the character U+0000 is not allowed in YAML; delete it"),
        (
            b"a: 1\n" + b"#" * MAX_BYTES,
            1,
            f"the file is larger than {MAX_BYTES} bytes; put data in files of its own",
        ),
    ],
)
def test_refusals_name_file_line_and_way_out(tmp_path: Path, content: str | bytes, line: int, found: str) -> None:
    message = refusal(tmp_path, content)
    assert message.startswith(f"file.yaml: line {line}: {found}")


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    # The mapping of the file is the first level.
    value = read(tmp_path, "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))["a"]
    depth = 0
    while value:
        (value,) = value
        depth += 1
    assert depth == MAX_DEPTH - 2


def test_very_deep_nesting_is_refused_without_recursion(tmp_path: Path) -> None:
    assert "nested deeper" in refusal(tmp_path, "a: " + "[" * 100_000)


def test_a_merge_key_is_a_plain_key(tmp_path: Path) -> None:
    assert read(tmp_path, "<<: {a: 1}") == {"<<": {"a": 1}}


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^none\.yaml: the file does not exist \(.*\); check the name$"):
        read_mapping(tmp_path / "none.yaml")


def test_directory(tmp_path: Path) -> None:
    (tmp_path / "dir.yaml").mkdir()
    with pytest.raises(RecipeError, match=r"^dir\.yaml: is a directory \(.*\); name a recipe file in it$"):
        read_mapping(tmp_path / "dir.yaml")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched, since root may read any file whatever its mode is.
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RecipeError, match=r"^a\.yaml: cannot be read \(Permission denied\); check its permissions$"):
        read_mapping(tmp_path / "a.yaml")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"k[a-z]{1,5}\Z"), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.from_regex(r"k[a-z]{1,5}\Z"), plain, min_size=1, max_size=4))
def test_what_pyyaml_writes_is_read_back(tmp_path: Path, values: dict[str, Any]) -> None:
    # Texts are quoted, because PyYAML leaves some unquoted that YAML 1.2 reads as numbers (1e5).
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", v, style='"'))
    assert read(tmp_path, yaml.dump(values, Dumper=Dumper, allow_unicode=True)) == values


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(content=st.binary(max_size=60) | st.text(st.sampled_from("ab:-[]{}&*!|>'\"#\n\t ,?%@`1.e~"), max_size=40))
def test_any_bytes_give_a_mapping_or_one_line(tmp_path: Path, content: str | bytes) -> None:
    try:
        values = read(tmp_path, content)
    except RecipeError as error:
        (line,) = error.problems
        assert line.startswith("file.yaml: line ")
        assert "\n" not in line
    else:
        assert all(isinstance(key, str) for key in values)
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in values.values())
