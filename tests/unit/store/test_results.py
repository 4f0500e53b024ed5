"""Results come back as they were stored, or not at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.store import Store, content_key

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values.filter(lambda value: value is not None))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_kept_comes_back(store: Store, value: Any) -> None:
    store.keep_result("outputs", "a" * 64, value)
    assert store.result("outputs", "a" * 64) == value


def test_kinds_and_keys_are_apart(store: Store) -> None:
    store.keep_result("outputs", "a", 1)
    assert store.result("outputs", "b") is None
    assert store.result("choices", "a") is None


def test_the_last_value_stays(store: Store) -> None:
    store.keep_result("outputs", "a", 1)
    store.keep_result("outputs", "a", 2)
    assert store.result("outputs", "a") == 2
    assert [path.name for path in (store.root / "results" / "outputs").iterdir()] == ["a.json"]


def stored_file(store: Store) -> Path:
    store.keep_result("choices", "a", {"log_likelihoods": [[-1.25, -2.5]]})
    return store.root / "results" / "choices" / "a.json"


def test_no_flipped_bit_goes_unnoticed(store: Store) -> None:
    """The last bit of each byte in turn; what is not valid UTF-8 or JSON any more counts as damaged as well."""
    file = stored_file(store)
    whole = file.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1
        file.write_bytes(bytes(content))
        assert store.result("choices", "a") is None
    file.write_bytes(whole)
    assert store.result("choices", "a") == {"log_likelihoods": [[-1.25, -2.5]]}


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "{}", '{"value": 1}', '{"digest": "0", "value": 1}', "null"])
def test_a_damaged_file_is_absent(store: Store, text: str) -> None:
    stored_file(store).write_text(text)
    assert store.result("choices", "a") is None


@pytest.mark.parametrize("value", [math.nan, math.inf, {"values": [0.5, -math.inf]}])
def test_what_is_not_finite_is_refused(store: Store, value: Any) -> None:
    with pytest.raises(StoreError, match=r"results/choices/a\.json: a result that is not finite cannot be stored"):
        store.keep_result("choices", "a", value)
    assert not store.root.exists()


def test_a_content_key_is_of_the_content() -> None:
    assert content_key({"a": 1, "b": [2, "é"]}) == content_key({"b": (2, "é"), "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    # sha256 of the bytes {"a":1}
    assert content_key({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    with pytest.raises(ValueError, match="JSON"):
        content_key({"a": math.nan})
