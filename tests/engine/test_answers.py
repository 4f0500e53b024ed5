"""Scoring a list of answers and generating one, against plain computation without batches."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from harness.engine.chat import completion_tokens, end_of_turn, prompt_tokens
from harness.engine.choices import score_options
from harness.engine.generation import generate_answers
from harness.engine.models import LoadedModel, load_base
from harness.engine.prompts import shared_length
from harness.errors import DataError, ScoringError
from harness.records import Example, Message

SYSTEM = Message("system", "Is it an animal or a tool?")
FLOAT32 = {"bnb_4bit_compute_dtype": "float32"}
OPTIONS = ("animal", "tool", "animal or tool", "the cat")


def examples(n: int = 11) -> list[Example]:
    """Prompts of many lengths, some with a system message and an earlier turn."""
    made = []
    for number, row in enumerate(tiny.rows("test", n, seed=3)):
        text = str(row["text"]) + " and the" * (number * 5 % 7)
        turns = (Message("user", "the saw"), Message("assistant", "tool")) if number % 3 == 0 else ()
        system = (SYSTEM,) if number % 2 else ()
        made.append(
            Example(f"t{number}", (*system, *turns, Message("user", text)), "animal", source=f"test.jsonl:{number + 1}")
        )
    return made


# Choices


def plain_log_likelihood(loaded: LoadedModel, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
    lines = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(lines[range(len(answer)), list(answer)].sum())


def test_choices_are_plain_log_likelihoods(tiny_loaded: LoadedModel) -> None:
    """Of the option and the end of its turn, each in a forward pass of its own."""
    tokenizer, asked = tiny_loaded.tokenizer, examples()
    counted: list[int] = []
    answered: dict[str, tuple[float, ...]] = {}
    choices = score_options(
        tiny_loaded,
        tiny_loaded.model,
        asked,
        OPTIONS,
        view="base",
        progress=counted.append,
        answered=lambda example, row: answered.setdefault(example, row),
    )
    assert answered == dict(zip(choices.ids, choices.log_likelihoods, strict=True))
    assert choices.view == "base"
    assert choices.ids == tuple(example.id for example in asked)
    assert choices.options == OPTIONS
    assert sum(counted) == len(asked) * len(OPTIONS)
    for example, row in zip(asked, choices.log_likelihoods, strict=True):
        prompt = prompt_tokens(tokenizer, example.messages)
        expected = [
            plain_log_likelihood(tiny_loaded, prompt, completion_tokens(tokenizer, option, end_of_turn(tokenizer)))
            for option in OPTIONS
        ]
        assert row == pytest.approx(expected, abs=1e-3)


def test_the_end_of_the_turn_counts(tiny_loaded: LoadedModel) -> None:
    """Without it an option that begins another could never be less likely than that."""
    tokenizer = tiny_loaded.tokenizer
    end = completion_tokens(tokenizer, "", end_of_turn(tokenizer))
    (example,) = examples(1)
    choices = score_options(tiny_loaded, tiny_loaded.model, [example], ("animal",), view="base")
    prompt = (*prompt_tokens(tokenizer, example.messages), *completion_tokens(tokenizer, "animal", ""))
    alone = plain_log_likelihood(tiny_loaded, prompt, end)
    assert alone < -1
    bare = plain_log_likelihood(
        tiny_loaded, prompt_tokens(tokenizer, example.messages), completion_tokens(tokenizer, "animal", "")
    )
    assert choices.log_likelihoods[0][0] == pytest.approx(bare + alone, abs=1e-3)


def test_a_prompt_without_room_for_the_longest_option_is_refused(tiny_loaded: LoadedModel) -> None:
    tokenizer = tiny_loaded.tokenizer
    fixed = len(prompt_tokens(tokenizer, (Message("user", ""),)))
    assert len(prompt_tokens(tokenizer, (Message("user", "###"),))) == fixed + 3
    end = len(completion_tokens(tokenizer, "tool", end_of_turn(tokenizer)))
    room = tiny_loaded.context_length - fixed - end
    fits = Example("fits", (Message("user", "#" * room),), "tool", source="test.jsonl:1")
    long = Example("long", (Message("user", "#" * (room + 1)),), "tool", source="test.jsonl:2")
    score_options(tiny_loaded, tiny_loaded.model, [fits], ("tool",), view="base")
    with pytest.raises(DataError, match=r"^test\.jsonl:2: 257 tokens, but the model's context is 256\.") as error:
        score_options(tiny_loaded, tiny_loaded.model, [fits, long], ("tool",), view="base")
    assert len(error.value.problems) == 1


# Answers


def plain_answer(loaded: LoadedModel, example: Example, limit: int, stop: int) -> tuple[str, bool]:
    """Greedy by hand: one whole forward pass a token, no cache, no padding. Also whether the answer ended."""
    tokens = list(prompt_tokens(loaded.tokenizer, example.messages))
    answer: list[int] = []
    for _ in range(limit):
        with torch.no_grad():
            token = int(loaded.model(input_ids=torch.tensor([tokens + answer])).logits[0, -1].argmax())
        if token == stop:
            return loaded.tokenizer.decode(answer, skip_special_tokens=True).strip(), True
        answer.append(token)
    return loaded.tokenizer.decode(answer, skip_special_tokens=True).strip(), False


@pytest.fixture
def sometimes_ending(tiny_loaded: LoadedModel) -> LoadedModel:
    """The end token made likelier, so that some answers end within the limit and some do not."""
    end = tiny_loaded.tokenizer.eos_token_id
    with torch.no_grad():
        tiny_loaded.model.get_output_embeddings().weight[end] *= 2
    return tiny_loaded


def generate(loaded: LoadedModel, asked: list[Example], **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "view": "base",
        "max_new_tokens": 8,
        "context_length": loaded.context_length,
        "device": "cpu",
        **changes,
    }
    return generate_answers(loaded.model, loaded.tokenizer, asked, **arguments)


def test_answers_are_those_of_plain_greedy_decoding(sometimes_ending: LoadedModel) -> None:
    loaded, asked = sometimes_ending, examples()
    expected = [plain_answer(loaded, example, 8, loaded.tokenizer.eos_token_id) for example in asked]
    truncated = {e.id for e, (_, ended) in zip(asked, expected, strict=True) if not ended}
    assert 0 < len(truncated) < len(asked)  # or this test would show less than it says
    assert len({text for text, _ in expected}) > 5
    for batch_size in (1, 3, 16):
        counted: list[int] = []
        answered: list[tuple[str, str, bool]] = []
        outputs = generate(
            loaded,
            asked,
            batch_size=batch_size,
            progress=counted.append,
            answered=lambda *one: answered.append(one),  # noqa: B023 (called within this pass)
        )
        found = zip(outputs.ids, outputs.texts, strict=True)
        assert sorted(answered) == sorted((i, text, i in outputs.truncated) for i, text in found)
        assert outputs.ids == tuple(example.id for example in asked)
        assert outputs.texts == tuple(text for text, _ in expected)
        assert outputs.truncated == truncated
        assert sum(counted) == len(asked)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox"])
def test_a_shared_beginning_is_read_once_and_changes_no_answer(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_base(tiny.save_tiny_model(tmp_path, architecture=architecture), FLOAT32, "cpu")
    asked = [replace(e, messages=(SYSTEM, *(m for m in e.messages if m.role != "system"))) for e in examples()]
    prompts = [prompt_tokens(loaded.tokenizer, e.messages) for e in asked]
    beginning = len(prompt_tokens(loaded.tokenizer, (SYSTEM,))) - 3  # less the header of an answer
    assert shared_length(prompts) >= beginning > 10
    read: list[int] = []
    forward = loaded.model.forward

    @wraps(forward)  # generate reads from the signature what it may pass
    def counting(*positional: Any, **arguments: Any) -> Any:
        read.append(arguments["input_ids"].numel())
        return forward(*positional, **arguments)

    monkeypatch.setattr(loaded.model, "forward", counting)
    outputs = generate(loaded, asked, batch_size=4)
    shared_reads = sum(read)
    read.clear()
    monkeypatch.setattr("harness.engine.prompts.kept_tokens", lambda cache: False)
    plain = generate(loaded, asked, batch_size=4)
    assert outputs == plain
    assert sum(read) - shared_reads >= (len(asked) - 1) * beginning
    assert len(set(outputs.texts)) > 2


def test_answers_are_those_of_generate_under_its_own_settings(sometimes_ending: LoadedModel) -> None:
    """A repetition penalty in the model's generation_config counts, as it does where the model is used."""
    loaded, asked = sometimes_ending, examples()
    before = generate(loaded, asked)
    loaded.model.generation_config.repetition_penalty = 1.5
    outputs = generate(loaded, asked)
    assert outputs.texts != before.texts
    for example, text in zip(asked, outputs.texts, strict=True):
        prompt = torch.tensor([prompt_tokens(loaded.tokenizer, example.messages)])
        answer = loaded.model.generate(prompt, max_new_tokens=8, do_sample=False)[0, prompt.shape[1] :]
        assert loaded.tokenizer.decode(answer, skip_special_tokens=True).strip() == text


def test_fewer_answers_at_once_where_memory_runs_out(
    sometimes_ending: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, asked = sometimes_ending, examples()
    expected = generate(loaded, asked)
    forward, sizes = loaded.model.forward, []

    @wraps(forward)
    def limited(*positional: Any, **arguments: Any) -> Any:
        sizes.append(len(arguments["input_ids"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*positional, **arguments)

    monkeypatch.setattr(loaded.model, "forward", limited)
    counted: list[int] = []
    assert generate(loaded, asked, batch_size=8, progress=counted.append) == expected
    assert max(sizes) == 8
    assert sum(counted) == len(asked)


def test_memory_for_less_than_one_answer_is_an_error(tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_positional: Any, **_arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny_loaded.model, "generate", no_memory)
    with pytest.raises(ScoringError, match=r"^memory does not suffice for 1 answers at once\."):
        generate(tiny_loaded, examples())


def test_a_prompt_without_room_for_the_answer_is_refused(tiny_loaded: LoadedModel) -> None:
    fixed = len(prompt_tokens(tiny_loaded.tokenizer, (Message("user", ""),)))
    fits = Example("fits", (Message("user", "#" * (256 - fixed - 8)),), "tool", source="test.jsonl:1")
    long = Example("long", (Message("user", "#" * (256 - fixed - 7)),), "tool", source="test.jsonl:2")
    assert generate(tiny_loaded, [fits]).ids == ("fits",)
    with pytest.raises(
        DataError,
        match=r"^test\.jsonl:2: 257 tokens, but the model's context \(with evaluation\.max_new_tokens: 8\) is 256\.",
    ):
        generate(tiny_loaded, [fits, long])
