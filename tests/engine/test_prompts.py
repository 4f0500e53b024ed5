"""The cache that grows in place holds what transformers' own holds, whatever is done to it on the way."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from harness.engine import prompts
from harness.engine.prompts import _RoomyLayer


def states(lines: int, tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(lines, 2, tokens, width, generator=draw) for width in (4, 3))
    return keys, values


@pytest.mark.parametrize("begun", [True, False])
def test_it_holds_what_transformers_own_holds(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "_ROOM", 3)
    stock = DynamicLayer()
    if begun:
        stock.update(*states(5, 7, 0))
    roomy = _RoomyLayer.of(stock)
    if begun:
        assert stock.keys is not None
        stock.keys = stock.keys.clone()  # nothing that is written into the one may reach the other
    lines = 5
    for step in range(40):
        new = states(lines, 4 if step == 0 else 1, step + 1)
        for given, expected in zip(roomy.update(*new), stock.update(*new), strict=True):
            assert torch.equal(given, expected)
        assert roomy.get_seq_length() == stock.get_seq_length()
        if step in (2, 20):
            stay = torch.tensor([0, 2, 3][: lines - 1])
            roomy.batch_select_indices(stay)
            stock.batch_select_indices(stay)
            lines = len(stay)
        if step == 10:
            roomy.crop(-4)
            stock.crop(-4)


def test_a_token_is_added_without_copying_those_before() -> None:
    roomy = _RoomyLayer.of(DynamicLayer())
    roomy.update(*states(2, 6, 0))
    before = roomy.keys.data_ptr()
    for step in range(20):
        roomy.update(*states(2, 1, step))
    assert roomy.keys.data_ptr() == before
    assert roomy.get_seq_length() == 26


def test_a_cropped_cache_does_not_show_what_was_cropped() -> None:
    roomy = _RoomyLayer.of(DynamicLayer())
    roomy.update(*states(1, 6, 0))
    roomy.crop(-2)
    keys, values = states(1, 1, 1)
    found, _ = roomy.update(keys, values)
    assert found.shape[-2] == 5
    assert torch.equal(found[:, :, 4:], keys)
