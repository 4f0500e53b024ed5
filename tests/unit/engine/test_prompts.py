"""How prompts that begin alike are laid out for `generate`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.prompts import prompt_tensors, shared_length

prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6)


@given(prompts)
def test_the_shared_part_is_the_longest_that_leaves_each_prompt_a_token(given_prompts: list[list[int]]) -> None:
    length = shared_length(given_prompts)
    shortest = min(map(len, given_prompts))
    assert all(prompt[:length] == given_prompts[0][:length] for prompt in given_prompts)
    assert length <= shortest - 1
    if length < shortest - 1:
        assert len({prompt[length] for prompt in given_prompts}) > 1


@given(prompts)
def test_each_line_reads_its_prompt(given_prompts: list[list[int]]) -> None:
    shared = shared_length(given_prompts)
    tokens, mask = prompt_tensors(given_prompts, shared=shared, filling=9, device="cpu")
    assert tokens.shape == mask.shape == (len(given_prompts), max(map(len, given_prompts)))
    for line, seen, prompt in zip(tokens, mask, given_prompts, strict=True):
        assert line[seen.bool()].tolist() == prompt
        assert line[~seen.bool()].tolist() == [9] * (len(line) - len(prompt))
        assert line[:shared].tolist() == prompt[:shared]
        assert int(line[-1]) == prompt[-1]


def test_one_prompt_keeps_its_last_token() -> None:
    assert shared_length([[1, 2, 3]]) == 2


@pytest.mark.parametrize("shared", [0, 1])
def test_nothing_need_be_shared(shared: int) -> None:
    tokens, mask = prompt_tensors([[1, 2], [1, 3, 4]], shared=shared, filling=0, device="cpu")
    assert tokens.tolist() == [[1, 0, 2] if shared else [0, 1, 2], [1, 3, 4]]
    assert mask.tolist() == [[1, 0, 1] if shared else [0, 1, 1], [1, 1, 1]]
