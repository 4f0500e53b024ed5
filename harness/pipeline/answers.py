"""What a view answered, example by example: what is not known yet is generated, and kept as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.records import Example, Outputs
from harness.store import Store, content_key

__all__ = ["Answers", "some_of"]


class _Answer(NamedTuple):
    text: str
    truncated: bool


class Answers:
    """One view's answers, as far as they were asked for.

    identity: what decides an answer beside the example's prompt. generate: answers examples; asked only for those
    that neither this run nor the store knows.
    """

    def __init__(
        self, view: str, identity: Mapping[str, Any], store: Store, generate: Callable[[Sequence[Example]], Outputs]
    ) -> None:
        self._view = view
        self._identity = content_key(identity)
        self._store = store
        self._generate = generate
        self._known: dict[str, _Answer] = {}

    @property
    def texts(self) -> dict[str, str]:
        """id -> text of each answer that this run has."""
        return {example_id: answer.text for example_id, answer in self._known.items()}

    def to(self, examples: Sequence[Example], *, keep: bool) -> Outputs:
        """The answers to these examples, in their order. keep: whether new ones go into the store one by one."""
        keys = {example.id: self._key(example) for example in examples if example.id not in self._known}
        for example_id, key in keys.items():
            stored = self._store.result("answers", key)
            if stored is not None:
                self._known[example_id] = _Answer(stored["text"], stored["truncated"])
        new = [example for example in examples if example.id not in self._known]
        if new:
            outputs = self._generate(new)
            for example_id, text in zip(outputs.ids, outputs.texts, strict=True):
                answer = self._known[example_id] = _Answer(text, example_id in outputs.truncated)
                if keep:
                    self._store.keep_result("answers", keys[example_id], answer._asdict())
        return Outputs(
            self._view,
            tuple(example.id for example in examples),
            tuple(self._known[example.id].text for example in examples),
            frozenset(example.id for example in examples if self._known[example.id].truncated),
        )

    def _key(self, example: Example) -> str:
        prompt = [[message.role, message.content] for message in example.messages]
        return content_key({"prompt": prompt, "identity": self._identity})


def some_of(outputs: Outputs, ids: Iterable[str]) -> Outputs:
    """The answers to these examples alone, in the order of all."""
    wanted = frozenset(ids)
    kept = [k for k, example_id in enumerate(outputs.ids) if example_id in wanted]
    return Outputs(
        outputs.view,
        tuple(outputs.ids[k] for k in kept),
        tuple(outputs.texts[k] for k in kept),
        outputs.truncated & wanted,
    )
