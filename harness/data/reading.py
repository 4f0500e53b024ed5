"""Reads a split: a JSON Lines file in which every line is one example in one of three forms.

    classification  {"id", "text", "label"}
    Alpaca          {"id", "instruction", "input", "output"}      input may be "" or left out
    chat            {"id", "messages": [{"role", "content"}, ...]}   the last message is the assistant's

Each may also have "group" and "slices". Every other key is an error: a misspelled one would be lost silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from harness.data.problems import location, nearest, raise_problems, shown
from harness.errors import DataError
from harness.records import Example, Message

__all__ = ["file_digest", "read_split"]

CLASSIFICATION = "classification"
ALPACA = "Alpaca"
CHAT = "chat"
_KEYS: Mapping[str, tuple[str, ...]] = {
    CLASSIFICATION: ("id", "text", "label", "group", "slices"),
    ALPACA: ("id", "instruction", "input", "output", "group", "slices"),
    CHAT: ("id", "messages", "group", "slices"),
}
# The form of a line is known by a key that no other form has, in this order.
_TELLING: Mapping[str, str] = {
    "messages": CHAT,
    "instruction": ALPACA,
    "output": ALPACA,
    "text": CLASSIFICATION,
    "label": CLASSIFICATION,
}
_FORMS_OF_TASK: Mapping[str, tuple[str, ...]] = {
    "classification": (CLASSIFICATION,),
    "generation": (ALPACA, CHAT),
    "chat": (CHAT, ALPACA),
}
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


class _Content(NamedTuple):
    turns: tuple[Message, ...]
    expected: str
    label: str | None


class _LineError(Exception):
    """A line cannot be read at all; the text says why."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises DataError if it cannot be read."""
    return hashlib.sha256(_read_bytes(Path(path))).hexdigest()


def read_split(path: Path, *, task: str, system: str | None, labels: tuple[str, ...]) -> tuple[Example, ...]:
    """The examples of a split in the order of the file.

    task: "classification", "generation" or "chat"; it says which forms a line may have.
    system: the system message of examples that bring none of their own.
    labels: for classification, all there are.
    Raises DataError with the problems of the whole file, each "file.jsonl:17: ...".
    """
    path = Path(path)
    content = _read_bytes(path)
    where = location(path)
    if not content.strip():
        raise DataError(f"{where}: the file is empty; write one JSON object a line")
    if content.startswith(_WIDE_BOMS):
        raise DataError(f"{where}:1: the file is UTF-16, not UTF-8; save it as UTF-8")
    problems: list[str] = []
    if content.startswith(_BOM):
        problems.append(f"{where}:1: the file starts with a byte order mark; save it as UTF-8 without BOM")
        content = content.removeprefix(_BOM)
    reader = _LineReader(task, system, labels)
    examples: list[Example] = []
    lines = content.removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        source = f"{where}:{number}"
        example, found = reader.read(line, source)
        problems += [f"{source}: {problem}" for problem in found]
        if example is not None:
            examples.append(example)
    problems += _contradictions(examples) if task == "classification" else []
    problems.sort(key=lambda problem: int(problem.removeprefix(f"{where}:").split(":", 1)[0]))
    raise_problems(problems)
    return tuple(examples)


def _read_bytes(path: Path) -> bytes:
    where = location(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"data file {where} does not exist; correct the path in the recipe, or add it") from None
    except IsADirectoryError:
        raise DataError(f"data file {where} is a directory; name a .jsonl file in it") from None
    except OSError as error:
        raise DataError(f"data file {where} cannot be read ({error.strerror}); check its permissions") from None


def _contradictions(examples: list[Example]) -> list[str]:
    """The same prompt with two labels: no model can get both right."""
    first: dict[tuple[Message, ...], Example] = {}
    problems = []
    for example in examples:
        earlier = first.setdefault(example.messages, example)
        if earlier.expected != example.expected:
            problems.append(
                f"{example.source}: expects {shown(example.expected)}, and the same prompt at "
                f"{earlier.source} expects {shown(earlier.expected)}; correct one of them"
            )
    return problems


class _LineReader:
    """Reads the lines of one file, remembering the ids."""

    def __init__(self, task: str, system: str | None, labels: tuple[str, ...]) -> None:
        self.task = task
        self.system = system
        self.labels = labels
        self.source_of_id: dict[str, str] = {}

    def read(self, line: bytes, source: str) -> tuple[Example | None, list[str]]:
        """The example of a line, or None, and what is wrong with it."""
        try:
            fields = _parse(line)
            form = self._form(fields)
        except _LineError as error:
            return None, [str(error)]
        problems = _unknown_keys(fields, _KEYS[form], f"the {form} form")
        example_id = self._id(fields, source, problems)
        readers: Mapping[str, Callable[[dict[str, Any], list[str]], _Content | None]] = {
            CLASSIFICATION: self._classification,
            ALPACA: _alpaca,
            CHAT: _chat,
        }
        content = readers[form](fields, problems)
        group = _text(fields, "group", problems, required=False)
        slices = _slices(fields, problems)
        if problems or content is None or example_id is None:
            return None, problems
        messages = content.turns
        if self.system is not None and messages[0].role != "system":
            messages = (Message("system", self.system), *messages)
        return Example(example_id, messages, content.expected, content.label, group, slices, source), []

    def _form(self, fields: dict[str, Any]) -> str:
        accepted = _FORMS_OF_TASK[self.task]
        form = next((form for key, form in _TELLING.items() if key in fields), accepted[0])
        if form not in accepted:
            wanted = " or ".join(accepted)
            keys = ", ".join(_KEYS[accepted[0]][: -len(("group", "slices"))])
            raise _LineError(
                f"has the keys of the {form} form, and data.task {self.task} needs the {wanted} form; "
                f"write the keys {keys}, or correct data.task"
            )
        return form

    def _id(self, fields: dict[str, Any], source: str, problems: list[str]) -> str | None:
        example_id = _text(fields, "id", problems)
        if example_id is None:
            return None
        earlier = self.source_of_id.setdefault(example_id, source)
        if earlier != source:
            problems.append(f"id {shown(example_id)} stands already at {earlier}; give each example its own")
        return example_id

    def _classification(self, fields: dict[str, Any], problems: list[str]) -> _Content | None:
        text = _text(fields, "text", problems, empty="the prompt is empty; write the text or delete the line")
        label = _text(fields, "label", problems, empty="the completion is empty; write the label or delete the line")
        if label is not None and label not in self.labels:
            near = nearest(label, self.labels)
            hint = f"did you mean {shown(near)}?" if near else f"the labels are {', '.join(self.labels)}"
            problems.append(f"label {shown(label)} is not among data.labels; {hint}")
        return None if text is None or label is None else _Content((Message("user", text),), label, label)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise _LineError(
            f"byte 0x{byte:02X}, number {error.start + 1} of the line, is not UTF-8; save it as UTF-8"
        ) from None
    if not text.strip():
        raise _LineError("the line is empty; delete it")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _LineError(
            f"not valid JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        ) from None
    except RecursionError:
        raise _LineError("nested too deeply to be an example; write one JSON object a line") from None
    except ValueError:  # Python refuses to convert numbers of thousands of digits
        raise _LineError("a number is too long to be read; write a shorter one") from None
    if not isinstance(value, dict):
        raise _LineError(f"must be a JSON object, got {shown(value)}; write one object a line")
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _LineError("half of a surrogate pair (\\ud800 to \\udfff) stands alone; no tokenizer reads it") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _LineError(f"the key {shown(twice)} stands twice in one object; remove one")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise _LineError(f"{name} is not JSON; write a finite number or null")


def _unknown_keys(fields: dict[str, Any], known: tuple[str, ...], form: str) -> list[str]:
    problems = []
    for key in fields:
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {shown(near)}?" if near else f"the keys are {', '.join(known)}"
            problems.append(f"key {shown(key)} is not one of {form}; {hint}")
    return problems


def _text(
    fields: dict[str, Any], key: str, problems: list[str], *, required: bool = True, empty: str | None = None
) -> str | None:
    """The text of a key, or None with a problem noted if it is missing, blank or no text."""
    value = fields.get(key)
    if value is None and key not in fields and not required:
        return None
    if key not in fields:
        problems.append(f"key {shown(key)} is missing; add it")
    elif not isinstance(value, str):
        problems.append(f"{key} must be a text, got {shown(value)}; put it in quotes")
    elif not value.strip():
        problems.append(empty or f"{key} is empty; write one")
    else:
        return value
    return None


def _alpaca(fields: dict[str, Any], problems: list[str]) -> _Content | None:
    instruction = _text(
        fields, "instruction", problems, empty="the prompt is empty; write the instruction or delete the line"
    )
    extra = fields.get("input", "")
    if not isinstance(extra, str):
        problems.append(f'input must be a text, got {shown(extra)}; write "" for none')
        extra = ""
    output = _text(fields, "output", problems, empty="the completion is empty; write the output or delete the line")
    if instruction is None or output is None:
        return None
    prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    return _Content((Message("user", prompt),), output, None)


def _chat(fields: dict[str, Any], problems: list[str]) -> _Content | None:
    given = fields.get("messages")
    if not isinstance(given, list):
        found = f"must be a list, got {shown(given)}" if "messages" in fields else "is missing"
        problems.append(f'messages {found}; write [{{"role": "user", "content": "..."}}, ...]')
        return None
    before = len(problems)
    messages = [message for index, item in enumerate(given) if (message := _message(item, index, len(given), problems))]
    if len(problems) > before:
        return None
    if not messages or messages[-1].role != "assistant":
        problems.append("the last message must be the assistant's, which is the completion; add it")
        return None
    turns = messages[1:] if messages[0].role == "system" else messages
    if len(turns) < 2:
        problems.append("the prompt is empty; write a user message before the assistant's")
        return None
    for index, message in enumerate(turns):
        wanted = "assistant" if index % 2 else "user"
        if message.role != wanted:
            place = index + len(messages) - len(turns)
            problems.append(
                f"messages[{place}] must be by {wanted}, got {message.role}; user and assistant take turns, "
                "after at most one system message"
            )
            return None
    return _Content(tuple(messages[:-1]), messages[-1].content, None)


def _message(item: object, index: int, count: int, problems: list[str]) -> Message | None:
    name = f"messages[{index}]"
    if not isinstance(item, dict):
        problems.append(f'{name} must be an object, got {shown(item)}; write {{"role": "user", "content": "..."}}')
        return None
    problems += _unknown_keys(item, ("role", "content"), name)
    role = item.get("role")
    if role not in ("system", "user", "assistant"):
        found = f"got {shown(role)}" if "role" in item else "it is missing"
        problems.append(f"{name}.role must be system, user or assistant, {found}")
        return None
    content = item.get("content")
    if not isinstance(content, str):
        found = f"got {shown(content)}" if "content" in item else "it is missing"
        problems.append(f"{name}.content must be a text, {found}")
        return None
    if not content.strip():
        last = index == count - 1 and role == "assistant"
        what = "the completion is empty" if last else f"{name}.content is empty, and so is the prompt"
        problems.append(f"{what}; write it or delete the line")
        return None
    return Message(role, content)


def _slices(fields: dict[str, Any], problems: list[str]) -> dict[str, str]:
    given = fields.get("slices", {})
    if not isinstance(given, dict):
        problems.append(f'slices must be an object, got {shown(given)}; write {{"name": "value"}}')
        return {}
    for name, value in given.items():
        if not isinstance(value, str) or not value.strip():
            problems.append(f"slices.{name} must be a text, got {shown(value)}; put it in quotes")
    return {name: value for name, value in given.items() if isinstance(value, str)}
