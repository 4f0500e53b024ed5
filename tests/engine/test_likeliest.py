"""Only answers that can win are read to their end, and what is said of them is what reading all of them says."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine import choices, likeliest
from harness.engine.attention import BLOCK, IMPLEMENTATION, visible_blocks, visible_square
from harness.engine.choices import score_options
from harness.engine.likeliest import keeps_rows, score_likeliest
from harness.engine.models import LoadedModel, load_base
from harness.engine.packing import TokenSequence
from harness.engine.scoring import score_continuations
from harness.errors import ScoringError
from harness.records import Example, Message

# Shared and unshared prompts, one that is the beginning of another, and the same one twice.
PROMPTS: list[tuple[int, ...]] = [(5, 6, 7, 8), (5, 6, 7), (5, 6, 7, 8, 9), (40, 41), (42,), (5, 6, 7, 8)]
# A single token, common beginnings, one that is the beginning of another, and a long one.
OPTIONS: list[tuple[int, ...]] = [(11,), (12, 13, 14), (12, 13, 15), (12, 13), (16, *range(60, 90)), (17, 2)]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt_neox"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.save_tiny_model(tmp_path_factory.mktemp(request.param), architecture=request.param)
    return load_base(folder, {"bnb_4bit_compute_dtype": "float32"}, "cpu").model


def prompts_of(n: int, seed: int) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    return [(5, 6, k % 3, *(draw.randrange(10, 100) for _ in range(draw.randrange(1, 30)))) for k in range(n)]


def every(model: Any, prompts: Sequence[tuple[int, ...]], options: Sequence[tuple[int, ...]]) -> list[list[float]]:
    """Each option's log-likelihood, every one a line of its own."""
    sequences = [TokenSequence(prompt, option) for prompt in prompts for option in options]
    scores = score_continuations(model, sequences, budget=1000, device="cpu", share=False)
    values = [score.log_likelihood for score in scores]
    return [values[start : start + len(options)] for start in range(0, len(values), len(options))]


def check(found: Sequence[Sequence[float | None]], expected: Sequence[Sequence[float]]) -> None:
    for line, values in zip(found, expected, strict=True):
        known = {option: value for option, value in enumerate(line) if value is not None}
        best = max(values)
        assert max(known.values()) == pytest.approx(best, abs=1e-3)
        assert values.index(best) in known
        for option, value in enumerate(values):
            if option in known:
                assert known[option] == pytest.approx(value, abs=1e-3)
            else:
                assert value < best


@pytest.mark.parametrize("budget", [1, 100, 1000])
def test_the_likeliest_answer_has_the_value_of_a_single_pass(model: Any, budget: int) -> None:
    found = score_likeliest(model, PROMPTS, OPTIONS, budget=budget, device="cpu")
    check(found, every(model, PROMPTS, OPTIONS))
    assert found[0] == found[-1]  # the same prompt twice


@pytest.mark.parametrize("attention", [IMPLEMENTATION, "sdpa"])
def test_many_prompts_in_several_blocks_and_rows(model: Any, attention: str) -> None:
    prompts = prompts_of(60, seed=0)
    model.set_attn_implementation(attention)
    try:
        found = score_likeliest(model, prompts, OPTIONS, budget=300, device="cpu")
    finally:
        model.set_attn_implementation(IMPLEMENTATION)
    check(found, every(model, prompts, OPTIONS))
    assert any(value is None for line in found for value in line)


class Counting:
    """Stands between caller and model, and counts the tokens that are read."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.tokens = 0

    def __call__(self, **arguments: Any) -> Any:
        self.tokens += arguments["input_ids"].numel()
        return self.model(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def test_answers_that_cannot_win_are_not_read(tiny_loaded: LoadedModel) -> None:
    """The second option's first token has a log-probability below that of the whole first one, by far."""
    prompt = (5, 6, 7)
    with torch.no_grad():
        line = tiny_loaded.model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    order = line.argsort(descending=True).tolist()
    options = [(order[0],), (order[-1], *range(20, 60))]
    counting = Counting(tiny_loaded.model)
    ((first, second),) = score_likeliest(counting, [prompt], options, budget=1000, device="cpu")
    assert first == pytest.approx(float(line[order[0]]), abs=1e-4)
    assert second is None
    assert counting.tokens < 40  # the second one alone has 41


def test_equally_likely_answers_all_have_their_value(model: Any) -> None:
    """Or a tie would look like a decision."""
    ((first, second, *_),) = score_likeliest(
        model, [(5, 6)], [(9, 10, 11), (9, 10, 11), (12,)], budget=99, device="cpu"
    )
    assert first == second


def test_what_is_not_a_number_is_not_taken_for_unlikely(tiny_loaded: LoadedModel) -> None:
    with torch.no_grad():
        tiny_loaded.model.get_input_embeddings().weight.fill_(math.nan)
    for line in score_likeliest(tiny_loaded.model, PROMPTS, OPTIONS, budget=99, device="cpu"):
        assert all(value is not None and math.isnan(value) for value in line)


def test_a_token_that_is_not_a_number_is_seen_where_it_is_read(tiny_loaded: LoadedModel) -> None:
    """The prompt is sound; reading on behind token 200 is not, and that answer might have won."""
    with torch.no_grad():
        tiny_loaded.model.get_input_embeddings().weight[200].fill_(math.nan)
        line = tiny_loaded.model(input_ids=torch.tensor([[5, 6]])).logits[0, -1].log_softmax(-1)
    last = int(line.argsort()[0])
    options = [(200, 5), (last, 7)]
    ((broken, other),) = score_likeliest(tiny_loaded.model, [(5, 6)], options, budget=99, device="cpu")
    assert broken is not None
    assert math.isnan(broken)
    assert other is not None  # nothing can be ruled out by a value that is no number


def test_progress_and_values_come_row_by_row(model: Any) -> None:
    prompts = prompts_of(40, seed=1)
    counted: list[int] = []
    seen: dict[int, tuple[float | None, ...]] = {}
    found = score_likeliest(
        model, prompts, OPTIONS, budget=150, device="cpu", progress=counted.append, scored=seen.__setitem__
    )
    assert sum(counted) == 40
    assert len(counted) > 1
    assert [seen[number] for number in range(40)] == found


def test_rows_are_halved_where_memory_runs_out(model: Any) -> None:
    prompts = prompts_of(40, seed=2)

    class Limited(Counting):
        def __call__(self, **arguments: Any) -> Any:
            if arguments["input_ids"].numel() > 256:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(**arguments)

    limited = Limited(model)
    found = score_likeliest(limited, prompts, OPTIONS, budget=1000, device="cpu")
    check(found, every(model, prompts, OPTIONS))

    class Never(Counting):
        def __call__(self, **arguments: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ScoringError, match="memory does not suffice"):
        score_likeliest(Never(model), prompts, OPTIONS, budget=1000, device="cpu")


def examples_of(n: int) -> list[Example]:
    texts = [row["text"] for row in tiny.rows("test", n, seed=0)]
    return [Example(str(k), (Message("user", str(text)),), "animal", "animal") for k, text in enumerate(texts)]


def test_options_by_name(tiny_loaded: LoadedModel) -> None:
    """Of an untrained model, which can rule out little: it ends its turn after none of them."""
    examples, labels = examples_of(30), [*tiny.ANIMALS, *tiny.TOOLS]
    counted: list[int] = []
    given: dict[str, tuple[float | None, ...]] = {}
    some = score_options(
        tiny_loaded,
        tiny_loaded.model,
        examples,
        labels,
        view="base",
        every=False,
        progress=counted.append,
        answered=given.__setitem__,
    )
    full = score_options(tiny_loaded, tiny_loaded.model, examples, labels, view="base")
    check(some.log_likelihoods, full.log_likelihoods)  # type: ignore[arg-type]
    assert all(value is not None for line in full.log_likelihoods for value in line)
    assert (some.view, some.ids, some.options) == (full.view, full.ids, full.options)
    assert sum(counted) == 30 * len(labels)
    assert tuple(given[example.id] for example in examples) == some.log_likelihoods


@pytest.mark.parametrize("cannot", ["takes_rows", "keeps_rows"])
def test_a_model_that_cannot_do_so_reads_all(
    cannot: str, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, cannot, lambda *_: False)
    found = score_options(tiny_loaded, tiny_loaded.model, examples_of(4), ["animal", "tool"], view="base", every=False)
    assert all(value is not None for line in found.log_likelihoods for value in line)


def test_a_cache_of_another_kind_is_found_out(tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keeps_rows(tiny_loaded.model, "cpu")
    monkeypatch.setattr(likeliest, "kept_tokens", lambda cache: False)
    assert not keeps_rows(tiny_loaded.model, "cpu")


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=150), st.integers(1, 149))
def test_blocks_behind_a_row_show_what_the_rule_shows(jumps: list[int], asked: int) -> None:
    """Random trees: each token hangs on one of the last before it; the last `asked` are read behind the others."""
    n, asked = len(jumps), min(asked, len(jumps))
    ends = list(range(1, n + 1))
    parents = [token - 1 - jump if token - 1 - jump >= 0 else None for token, jump in enumerate(jumps)]
    path: list[int] = []  # of a depth-first order: a parent that is no ancestor of the last token becomes the last one
    paths: list[list[int]] = []
    for token, parent in enumerate(parents):
        while path and parent is not None and path[-1] > parent:
            path.pop()
        if parent is None:
            path.clear()
        for ancestor in path:
            ends[ancestor] = token + 1
        paths.append(list(path))
        path.append(token)
    square = visible_square(range(n), ends, asked, "cpu")[0, 0]
    keys, mask = visible_blocks(range(n), ends, paths[n - asked :], "cpu")
    for line in range(asked):
        block, inside = divmod(line, BLOCK)
        seen = sorted(keys[block][mask[block, 0, inside]].tolist())
        assert seen == square[line].nonzero()[:, 0].tolist()
        assert seen == [*paths[n - asked + line], n - asked + line]
