"""A small, strict part of YAML: what a recipe needs, and nothing that can surprise.

Plain YAML as PyYAML reads it keeps the last of two equal keys, turns `no` into False, reads `1e-3` as text
and lets aliases grow without bound. Here scalars follow the YAML 1.2 core schema (`yes`, `no`, `on` and dates
are texts, `1e-3` is a number), and everything else that is doubtful is refused with its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml import events

from harness.errors import RecipeError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "read_mapping"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
# Longer digit strings are no setting anyone means, and Python refuses to convert very long ones.
_MAX_DIGITS = 20

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; keys are texts, values plain Python values.

    Raises RecipeError, one line "file.yaml: line N: what was found; what to do", at the first thing that is
    not plain YAML.
    """
    text = _read_text(path)
    try:
        return _Reader(path.name, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = (error.problem or error.context or "it cannot be read").replace("\n", " ")
        if "'\\t'" in problem:
            _refuse(path.name, line, "a tab stands where YAML wants spaces; indent with spaces")
        _refuse(path.name, line, f"not valid YAML ({problem}); check indentation, colons and quotes there")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(error.position, 0)) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        _refuse(path.name, line, f"the character U+{code:04X} is not allowed in YAML; delete it")


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Reading one byte more than allowed tells a file that is too large without reading all of it.
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path.name}: the file does not exist ({path}); check the name") from None
    except IsADirectoryError:
        raise RecipeError(f"{path.name}: is a directory ({path}); name a recipe file in it") from None
    except OSError as error:
        raise RecipeError(f"{path.name}: cannot be read ({error.strerror}); check its permissions") from None
    if len(content) > MAX_BYTES:
        _refuse(path.name, 1, f"the file is larger than {MAX_BYTES} bytes; put data in files of its own")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _refuse(path.name, line, f"byte 0x{content[error.start]:02X} is not UTF-8; save the file as UTF-8")


def _refuse(file: str, line: int, problem: str) -> NoReturn:
    raise RecipeError(f"{file}: line {line}: {problem}")


class _Reader:
    """Builds plain values from parser events, which PyYAML makes without recursion."""

    def __init__(self, file: str, stream: Iterator[events.Event]) -> None:
        self.file = file
        self.stream = stream

    def document(self) -> dict[str, Any]:
        next(self.stream)  # stream start
        if isinstance(next(self.stream), events.StreamEndEvent):
            self._refuse(1, "the file is empty; a recipe starts with its name, e.g. name: my_recipe")
        event = next(self.stream)
        if not isinstance(event, events.MappingStartEvent):
            self._check(event, 1)
            self._refuse(_line(event), "a recipe must be a mapping; write lines of the form key: value")
        value = self._value(event, 1)
        next(self.stream)  # document end
        after = next(self.stream)
        if not isinstance(after, events.StreamEndEvent):
            self._refuse(_line(after), "a second document starts here; keep one recipe in a file")
        assert isinstance(value, dict)
        return value

    def _value(self, event: events.Event, depth: int) -> Any:
        self._check(event, depth)
        if isinstance(event, events.MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, events.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self.stream), events.SequenceEndEvent):
                items.append(self._value(item, depth + 1))
            return items
        assert isinstance(event, events.ScalarEvent)
        return self._scalar(event)

    def _mapping(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.stream), events.MappingEndEvent):
            self._check(event, depth)
            key = self._scalar(event) if isinstance(event, events.ScalarEvent) else None
            if not isinstance(key, str):
                self._refuse(_line(event), "a key must be a text; put it in quotes, or check the indentation")
            if key in lines:
                first = lines[key]
                self._refuse(_line(event), f"the key {key} stands here again, first on line {first}; remove one")
            lines[key] = _line(event)
            values[key] = self._value(next(self.stream), depth + 1)
        return values

    def _check(self, event: events.Event, depth: int) -> None:
        line = _line(event)
        if isinstance(event, events.AliasEvent):
            self._refuse(line, f"the alias *{event.anchor} is not allowed; write the value out, or use extends")
        if getattr(event, "anchor", None) is not None:
            anchor = getattr(event, "anchor", "")
            self._refuse(line, f"the anchor &{anchor} is not allowed; write the value out, or use extends")
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(line, f"the tag {shown} is not allowed; write a plain value")
        if depth > MAX_DEPTH:
            self._refuse(line, f"nested deeper than {MAX_DEPTH} levels; a recipe needs at most 4")

    def _scalar(self, event: events.ScalarEvent) -> Any:
        text: str = event.value
        if event.style is not None:  # quoted or block: always a text
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _NOT_FINITE.match(text):
            self._refuse(_line(event), f"{text} is not a number that a recipe can use; write a finite one")
        try:
            if _INT.match(text) or _OCTAL.match(text) or _HEX.match(text):
                if len(text) > _MAX_DIGITS:
                    self._refuse(_line(event), f"a number of {len(text)} digits; write at most {_MAX_DIGITS}")
                return int(text, 10) if _INT.match(text) else int(text, 0)
            if _FLOAT.match(text):
                number = float(text)
                if not math.isfinite(number):
                    self._refuse(_line(event), f"{text} is too large for a number; write a finite one")
                return number
        except ValueError:  # pragma: no cover - the patterns above admit only what int and float read
            pass
        return text

    def _refuse(self, line: int, problem: str) -> NoReturn:
        _refuse(self.file, line, problem)


def _line(event: events.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1
