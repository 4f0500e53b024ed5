"""What must hold between splits, and the few-shot examples taken from the training split."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from harness.data.problems import raise_problems, shown
from harness.errors import DataError
from harness.records import Example

__all__ = ["check_splits", "few_shot_examples"]

Prompt = tuple[tuple[str, str], ...]


def check_splits(train: Sequence[Example], validation: Sequence[Example], test: Sequence[Example]) -> None:
    """Checks that the test split measures what was not trained on.

    Ids must be distinct over all splits. A test prompt must be in neither train nor validation, compared
    without regard to case and white space, and only once in test: a second time would count one item twice.
    Raises DataError with all problems, each "file:line: ...".
    """
    problems = [*_duplicate_ids((("train", train), ("validation", validation), ("test", test)))]
    for name, split in (("train", train), ("validation", validation)):
        earlier = {_folded(example): example for example in reversed(split)}
        for example in test:
            other = earlier.get(_folded(example))
            if other is not None:
                problems.append(
                    f"{example.source}: test example {shown(example.id)} is also in {name}, "
                    f"at {other.source}; remove it from one of them"
                )
    problems += _repeated(test)
    raise_problems(problems)


def few_shot_examples(train: Sequence[Example], *, n: int, seed: int) -> tuple[Example, ...]:
    """n examples of the training split for a prompt, the same for the same seed.

    Where examples have labels, these take turns, so that their counts differ by at most one as long as every
    label has examples left. Which labels and examples, and their order, is drawn.
    Raises DataError if n is more than there are, or negative.
    """
    if n < 0:
        raise DataError(f"few_shot must be at least 0, got {n}")
    if n > len(train):
        raise DataError(f"few_shot asks for {n} examples, and the training set has {len(train)}; lower few_shot")
    draw = random.Random(seed)
    by_label: dict[str, list[Example]] = {}
    for example in train:
        by_label.setdefault(example.label or "", []).append(example)
    # Sorted first: the draw must not depend on the order of the file's labels. Then shuffled: with fewer
    # examples than labels, the first ones of the alphabet would always be taken.
    labels = sorted(by_label)
    draw.shuffle(labels)
    for label in labels:
        draw.shuffle(by_label[label])
    chosen: list[Example] = []
    while len(chosen) < n:
        for label in labels:
            if by_label[label] and len(chosen) < n:
                chosen.append(by_label[label].pop())
    draw.shuffle(chosen)
    return tuple(chosen)


def _folded(example: Example) -> Prompt:
    return tuple((message.role, " ".join(message.content.split()).casefold()) for message in example.messages)


def _duplicate_ids(splits: Iterable[tuple[str, Sequence[Example]]]) -> Iterable[str]:
    first: dict[str, tuple[str, Example]] = {}
    for name, split in splits:
        for example in split:
            earlier_name, earlier = first.setdefault(example.id, (name, example))
            if earlier is not example:
                yield (
                    f"{example.source}: id {shown(example.id)} of {name} is also in {earlier_name}, "
                    f"at {earlier.source}; give each example an id of its own"
                )


def _repeated(test: Sequence[Example]) -> Iterable[str]:
    first: dict[object, Example] = {}
    for example in test:
        earlier = first.setdefault(example.messages, example)
        if earlier is example:
            continue
        same = "" if earlier.expected == example.expected else ", with another expected answer"
        yield f"{example.source}: the same prompt as {earlier.source}{same}; a test needs each prompt once"
