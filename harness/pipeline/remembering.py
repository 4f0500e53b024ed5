"""What is computed once and then taken from the store: answers by example, and results as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from harness.records import Example
from harness.store import Store, content_key

__all__ = ["Keep", "finite", "stored_answers", "stored_result"]

T = TypeVar("T")
Keep = Callable[[str, Any], None]
"""Takes an example's id and its answer, as JSON values."""


def stored_answers(
    store: Store,
    kind: str,
    content: Mapping[str, Any],
    examples: Sequence[Example],
    ask: Callable[[Sequence[Example], Keep], None],
    *,
    serving: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Example id -> answer, from the store where that is known.

    content: what decides an answer beside the example's own messages. ask: called with the examples that are not known,
    hands out each answer as it comes, and so it is kept. serving: the content of other answers, which serve as well.
    """
    answers = store.answers(kind, content_key(content))
    known = answers.read()
    if serving is not None and serving != content:
        known = {**store.answers(kind, content_key(serving)).read(), **known}
    keys = {e.id: content_key({"messages": [[m.role, m.content] for m in e.messages]}) for e in examples}
    values = {example_id: known[key] for example_id, key in keys.items() if key in known}
    missing = [example for example in examples if example.id not in values]
    if missing:
        with answers.adding() as add:

            def keep(example_id: str, value: Any) -> None:
                values[example_id] = value
                if finite(value):  # NaN makes a gate incomplete; it is measured again rather than remembered
                    add(keys[example_id], value)

            ask(missing, keep)
    return values


def stored_result(
    store: Store,
    kind: str,
    content: Mapping[str, Any],
    compute: Callable[[], T],
    plain: Callable[[T], Any],
    restore: Callable[[Any], T],
) -> T:
    """What `compute` returns, or has returned before. plain, restore: to JSON values and back."""
    key = content_key(content)
    value = store.result(kind, key)
    if value is not None:
        return restore(value)
    result = compute()
    stored = plain(result)
    # NaN makes a gate incomplete; it is measured again rather than remembered
    if finite(stored) and not stored.get("unscored"):
        store.keep_result(kind, key, stored)
    return result


def finite(value: Any) -> bool:
    """Whether no number in a JSON value is NaN or infinite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(finite(item) for item in value)
    return True
