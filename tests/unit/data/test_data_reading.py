"""Reading a split: the three forms, and every message that a wrong line gets."""

# ruff: noqa: E501 - messages stand in one piece, as users see them

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data import file_digest, read_split
from harness.errors import DataError
from harness.records import Example, Message

LABELS = ("fee", "payroll", "travel")
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """write(*lines) -> file.jsonl in the working directory; lines are objects, texts or bytes."""
    monkeypatch.chdir(tmp_path)

    def write(*lines: Any) -> Path:
        path = tmp_path / "file.jsonl"
        encoded = [
            line
            if isinstance(line, bytes)
            else (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)).encode()
            for line in lines
        ]
        path.write_bytes(b"".join(line + b"\n" for line in encoded))
        return path

    return write


def read(path: Path, task: str = "classification", system: str | None = None) -> tuple[Example, ...]:
    return read_split(path, task=task, system=system, labels=LABELS if task == "classification" else ())


def problems(path: Path, task: str = "classification") -> list[str]:
    with pytest.raises(DataError) as caught:
        read(path, task)
    return list(caught.value.problems)


def item(id: str = "1", text: str = "a", label: str = "fee", **more: Any) -> dict[str, Any]:
    return {"id": id, "text": text, "label": label, **more}


def alpaca(**more: Any) -> dict[str, Any]:
    return {"id": "1", "instruction": "Do", "input": "", "output": "Done", **more}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"id": "1", "messages": list(messages), **more}


def test_classification(write: Write) -> None:
    path = write(item(), item("2", "b", "travel", group="g", slices={"seen": "yes"}))
    assert read(path) == (
        Example("1", (Message("user", "a"),), "fee", "fee", None, {}, "file.jsonl:1"),
        Example("2", (Message("user", "b"),), "travel", "travel", "g", {"seen": "yes"}, "file.jsonl:2"),
    )


def test_alpaca(write: Write) -> None:
    path = write(
        alpaca(),
        alpaca(id="2", input="x\ny", group="g"),
        {"id": "3", "instruction": "Do", "output": "Done"},
    )
    found = read(path, "generation")
    assert [example.messages[-1].content for example in found] == ["Do", "Do\n\nx\ny", "Do"]
    assert {example.expected for example in found} == {"Done"}
    assert {example.label for example in found} == {None}
    assert found[1].group == "g"


def test_chat_with_earlier_turns(write: Write) -> None:
    first, second = USER, {"role": "user", "content": "And?"}
    (example,) = read(write(chat(first, ASSISTANT, second, {"role": "assistant", "content": "Bye"})), "chat")
    assert example.messages == (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "And?"))
    assert example.expected == "Bye"


def test_forms_of_generation_and_chat_are_known_line_by_line(write: Write) -> None:
    path = write(alpaca(), chat(USER, ASSISTANT, id="2"))
    assert [example.expected for example in read(path, "generation")] == ["Done", "Hello"]
    assert read(path, "generation") == read(path, "chat")


@pytest.mark.parametrize(
    ("line", "task"), [(item(), "classification"), (alpaca(), "generation"), (chat(USER, ASSISTANT), "chat")]
)
def test_the_recipes_system_message_comes_first(write: Write, line: object, task: str) -> None:
    (example,) = read(write(line), task, "Be brief.")
    assert example.messages[0] == Message("system", "Be brief.")
    assert [message.role for message in example.messages] == ["system", "user"]


def test_a_chats_own_system_message_wins(write: Write) -> None:
    (example,) = read(write(chat({"role": "system", "content": "Own"}, USER, ASSISTANT)), "chat", "Recipe's")
    assert example.messages == (Message("system", "Own"), Message("user", "Hi"))


def test_text_is_kept_as_it_is(write: Write) -> None:
    # U+2028 ends a line for str.splitlines, but not in JSON Lines.
    text = "  ünï\u2028cödé \U0001f600 "
    assert read(write(item(text=text)))[0].messages[0].content == text


def test_windows_line_ends_and_a_missing_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json.dumps(item()).encode() + b"\r\n" + json.dumps(item("2")).encode())
    assert [example.id for example in read(path)] == ["1", "2"]


def test_the_same_example_twice_under_two_ids_is_allowed(write: Write) -> None:
    assert len(read(write(item("1"), item("2")))) == 2


def test_a_path_outside_the_working_directory_is_written_out(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(item())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read(path)[0].source == f"{path.as_posix()}:1"


CLASSIFICATION_KEYS = "id, text, label, group, slices"
LINES = [
    # what is not a JSON object
    ('{"id": "1", "text" "a"}', "not valid JSON at column 20 (Expecting ':' delimiter); write one JSON object a line"),
    ('{"id": "1"} {}', "not valid JSON at column 13 (Extra data); write one JSON object a line"),
    ("[1, 2]", "must be a JSON object, got [1, 2]; write one object a line"),
    ('"text"', 'must be a JSON object, got "text"; write one object a line'),
    ("", "the line is empty; delete it"),
    ("   ", "the line is empty; delete it"),
    ('{"id": "1", "text": "a", "text": "b", "label": "fee"}', 'the key "text" stands twice in one object; remove one'),
    ('{"id": "1", "text": NaN, "label": "fee"}', "NaN is not JSON; write a finite number or null"),
    ('{"id": "1", "text": -Infinity}', "-Infinity is not JSON; write a finite number or null"),
    ('{"id": ' + "9" * 5000 + "}", "a number is too long to be read; write a shorter one"),
    ("[" * 100_000, "nested too deeply to be an example; write one JSON object a line"),
    ('{"id": "1", "text": "\\ud800", "label": "fee"}', "half of a surrogate pair (\\ud800 to \\udfff) stands alone; no tokenizer reads it"),
    (b'{"id": "caf\xe9"}', "byte 0xE9, number 12 of the line, is not UTF-8; save it as UTF-8"),
    # ids
    ({"text": "a", "label": "fee"}, 'key "id" is missing; add it'),
    (item(id=""), "id is empty; write one"),
    (item(id=3), "id must be a text, got 3; put it in quotes"),
    (item(id=None), "id must be a text, got null; put it in quotes"),
    # prompt, completion, label
    (item(text="  "), "the prompt is empty; write the text or delete the line"),
    (item(text=["a"]), 'text must be a text, got ["a"]; put it in quotes'),
    ({"id": "1", "label": "fee"}, 'key "text" is missing; add it'),
    ({"id": "1", "text": "a"}, 'key "label" is missing; add it'),
    (item(label=""), "the completion is empty; write the label or delete the line"),
    (item(label="payrol"), 'label "payrol" is not among data.labels; did you mean "payroll"?'),
    (item(label="zzz"), 'label "zzz" is not among data.labels; the labels are fee, payroll, travel'),
    (item(label=3), "label must be a text, got 3; put it in quotes"),
    # other keys
    (item(grupo="x"), 'key "grupo" is not one of the classification form; did you mean "group"?'),
    (item(zzz=1), f'key "zzz" is not one of the classification form; the keys are {CLASSIFICATION_KEYS}'),
    (item(group=3), "group must be a text, got 3; put it in quotes"),
    (item(group=""), "group is empty; write one"),
    (item(slices=["a"]), 'slices must be an object, got ["a"]; write {"name": "value"}'),
    (item(slices={"seen": True}), "slices.seen must be a text, got true; put it in quotes"),
    (item(slices={"seen": " "}), 'slices.seen must be a text, got " "; put it in quotes'),
    # a form that does not fit the task
    (
        alpaca(),
        "has the keys of the Alpaca form, and data.task classification needs the classification form; "
        "write the keys id, text, label, or correct data.task",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), LINES)
def test_classification_line(write: Write, line: object, message: str) -> None:
    assert problems(write(item("0", "first"), line)) == [f"file.jsonl:2: {message}"]


OTHER_LINES = [
    (alpaca(instruction=" "), "the prompt is empty; write the instruction or delete the line"),
    (alpaca(output=""), "the completion is empty; write the output or delete the line"),
    (alpaca(input=None), 'input must be a text, got null; write "" for none'),
    (alpaca(input=3), 'input must be a text, got 3; write "" for none'),
    ({"id": "1", "instruction": "Do"}, 'key "output" is missing; add it'),
    ({"id": "1", "output": "Done"}, 'key "instruction" is missing; add it'),
    (
        {"id": "1", "instuction": "Do", "output": "Done"},
        'key "instuction" is not one of the Alpaca form; did you mean "instruction"?',
        'key "instruction" is missing; add it',
    ),
    (
        item(),
        "has the keys of the classification form, and data.task generation needs the Alpaca or chat form; "
        "write the keys id, instruction, input, output, or correct data.task",
    ),
    (chat(), "the last message must be the assistant's, which is the completion; add it"),
    (chat(USER), "the last message must be the assistant's, which is the completion; add it"),
    (chat(ASSISTANT), "the prompt is empty; write a user message before the assistant's"),
    (
        chat({"role": "system", "content": "x"}, ASSISTANT),
        "the prompt is empty; write a user message before the assistant's",
    ),
    (chat({**USER, "content": " "}, ASSISTANT), "messages[0].content is empty, and so is the prompt; write it or delete the line"),
    (chat(USER, {**ASSISTANT, "content": ""}), "the completion is empty; write it or delete the line"),
    (
        chat(USER, USER, ASSISTANT),
        "messages[1] must be by assistant, got user; user and assistant take turns, after at most one system message",
    ),
    (
        chat({"role": "system", "content": "x"}, USER, {"role": "system", "content": "y"}, ASSISTANT),
        "messages[2] must be by assistant, got system; user and assistant take turns, after at most one system message",
    ),
    (
        chat({"role": "bot", "content": "x"}, ASSISTANT),
        'messages[0].role must be system, user or assistant, got "bot"',
    ),
    (chat({"content": "x"}, ASSISTANT), "messages[0].role must be system, user or assistant, it is missing"),
    (chat({"role": "user"}, ASSISTANT), "messages[0].content must be a text, it is missing"),
    (chat({"role": "user", "content": 3}, ASSISTANT), "messages[0].content must be a text, got 3"),
    (chat("Hi", ASSISTANT), 'messages[0] must be an object, got "Hi"; write {"role": "user", "content": "..."}'),
    (
        chat({**USER, "contents": "x"}, ASSISTANT),
        'key "contents" is not one of messages[0]; did you mean "content"?',
    ),
    ({"id": "1", "messages": "Hi"}, 'messages must be a list, got "Hi"; write [{"role": "user", "content": "..."}, ...]'),
]  # fmt: skip


@pytest.mark.parametrize("case", OTHER_LINES)
def test_generation_line(write: Write, case: tuple[Any, ...]) -> None:
    line, *messages = case
    assert problems(write(line), "generation") == [f"file.jsonl:1: {message}" for message in messages]


def test_a_chat_line_without_messages(write: Write) -> None:
    assert problems(write({"id": "1"}), "chat") == [
        'file.jsonl:1: messages is missing; write [{"role": "user", "content": "..."}, ...]'
    ]


def test_duplicate_id(write: Write) -> None:
    assert problems(write(item("1"), item("2"), item("1", "other"))) == [
        'file.jsonl:3: id "1" stands already at file.jsonl:1; give each example its own'
    ]


def test_an_id_counts_even_where_its_line_is_wrong(write: Write) -> None:
    lines = problems(write(item("1", label="zzz"), item("1")))
    assert [line.split(": ")[0] for line in lines] == ["file.jsonl:1", "file.jsonl:2"]


def test_the_same_prompt_with_another_label(write: Write) -> None:
    assert problems(write(item("1"), item("2", label="travel"))) == [
        'file.jsonl:2: expects "travel", and the same prompt at file.jsonl:1 expects "fee"; correct one of them'
    ]


def test_all_problems_of_a_file_in_its_order(write: Write) -> None:
    path = write(item("1"), item("", label="zzz"), "{", item("1"), item("4", label="travel"))
    assert [line.split(": ")[0] for line in problems(path)] == [
        "file.jsonl:2", "file.jsonl:2", "file.jsonl:3", "file.jsonl:4", "file.jsonl:5",
    ]  # fmt: skip


def test_at_most_twenty_problems_are_shown(write: Write) -> None:
    lines = problems(write(*["{"] * 25))
    assert len(lines) == 21
    assert lines[19].startswith("file.jsonl:20: ")
    assert lines[20] == "... and 5 more"
    assert len(problems(write(*["{"] * 20))) == 20


def test_missing_file(write: Write, tmp_path: Path) -> None:
    write()
    assert problems(tmp_path / "none.jsonl") == [
        "data file none.jsonl does not exist; correct the path in the recipe, or add it"
    ]


def test_directory(write: Write, tmp_path: Path) -> None:
    write()
    (tmp_path / "dir").mkdir()
    assert problems(tmp_path / "dir") == ["data file dir is a directory; name a .jsonl file in it"]


def test_unreadable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched, since root may read any file whatever its mode is.
    def refuse(*_: object) -> object:
        raise PermissionError(13, os.strerror(13))

    path = write(item())
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert problems(path) == ["data file file.jsonl cannot be read (Permission denied); check its permissions"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_empty_file(write: Write, content: bytes) -> None:
    path = write()
    path.write_bytes(content)
    assert problems(path) == ["file.jsonl: the file is empty; write one JSON object a line"]


def test_byte_order_mark(write: Write) -> None:
    path = write(item(), item("2", label="zzz"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    lines = problems(path)
    assert lines[0] == "file.jsonl:1: the file starts with a byte order mark; save it as UTF-8 without BOM"
    assert len(lines) == 2  # and the rest of the file is read


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16(write: Write, encoding: str) -> None:
    path = write()
    path.write_bytes(("\ufeff" + json.dumps(item())).encode(encoding))
    assert problems(path) == ["file.jsonl:1: the file is UTF-16, not UTF-8; save it as UTF-8"]


def test_digest_is_sha256_of_the_bytes(write: Write, tmp_path: Path) -> None:
    path = write(item())
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"data file none\.jsonl does not exist"):
        file_digest(tmp_path / "none.jsonl")


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    ids=st.lists(words, min_size=1, max_size=4, unique=True),
    text=words,
    label=st.sampled_from(LABELS),
    slices=st.dictionaries(words, words, max_size=2),
)
def test_what_is_written_is_read(write: Write, ids: list[str], text: str, label: str, slices: dict[str, str]) -> None:
    examples = read(write(*[item(id, text, label, slices=slices) for id in ids]))
    assert [example.id for example in examples] == ids
    for example in examples:
        assert example.messages == (Message("user", text),)
        assert (example.expected, example.label, example.slices) == (label, label, slices)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    lines=st.lists(
        st.binary(max_size=20)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["id", "messages", "role", "content", "output"]), inner, max_size=4)
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
        max_size=4,
    ),
    task=st.sampled_from(["classification", "generation", "chat"]),
)
def test_any_content_gives_examples_or_a_data_error(write: Write, lines: list[bytes], task: str) -> None:
    found: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    try:
        examples = read(write(*lines), task)
    except DataError as error:
        found = error.problems
    assert bool(found) != bool(examples)
    assert all(problem.startswith("file.jsonl") and "\n" not in problem for problem in found)
    assert all(example.expected.strip() for example in examples)
