"""Checks the blocks `quantization`, `lora` and `training` of a recipe against the libraries' arguments."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from harness.recipes import rules
from harness.recipes.arguments import BLOCKS, Argument, Block, Kind, arguments_of, class_title

__all__ = ["Problem", "allowed_arguments", "choices_of", "nearest", "normalize", "shown"]

_MAX_SHOWN = 60
_MAX_LISTED = 12
_KIND_WORDS: Mapping[Kind, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "text": "a text",
    "list": "a list",
    "mapping": "a mapping",
    "null": "null",
}


class Problem(NamedTuple):
    """One thing that is wrong. text follows the dotted path in a message: "must be at least 1, got 0."."""

    path: tuple[str, ...]
    text: str


def shown(value: object) -> str:
    """A value as the recipe's writer would write it, on one line and not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of the names, or None if none is similar; one that continues `name` comes first."""
    names = list(names)
    if len(name) > 2:
        continued = next((other for other in names if other.startswith(name)), None)
        if continued is not None:
            return continued
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return close[0] if close else None


def allowed_arguments(block: Block) -> dict[str, Argument]:
    """The arguments that a recipe may set: the library's, without reserved, deprecated and object ones."""
    return {
        name: argument
        for name, argument in arguments_of(block).items()
        if _reserved(block, name) is None and not argument.deprecated and not argument.takes_object
    }


def choices_of(block: Block, argument: Argument) -> tuple[tuple[str | bool, ...], str]:
    """The values that an argument allows (none listed: any of its kinds), and a sentence why."""
    return rules.CHOICES[block].get(argument.name, (argument.choices, ""))


def normalize(block: Block, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The block with defaults filled in, keys sorted, and whole numbers made float where a float is meant.

    Two spellings of the same settings become equal. The problems come in the order of the keys given.
    """
    allowed = allowed_arguments(block)
    values: dict[str, Any] = dict(rules.DEFAULTS[block])
    problems = []
    for key, value in given.items():
        argument = allowed.get(key)
        text = _refused(block, key) if argument is None else _wrong(block, argument, value)
        if text is not None:
            problems.append(Problem((block, key), text))
        elif argument is not None:
            values[key] = _as_kind(argument, value)
    if block == "quantization":
        problems += _quantization_problems(given)
    return {key: values[key] for key in sorted(values)}, problems


def _quantization_problems(given: Mapping[str, Any]) -> list[Problem]:
    if given.get("load_in_4bit") is True and given.get("load_in_8bit") is True:
        return [Problem(("quantization", "load_in_8bit"), "and load_in_4bit are both true. Keep one.")]
    # Settings without their switch would silently train on the unquantized base.
    four, eight = (given.get(switch) is True for switch in ("load_in_4bit", "load_in_8bit"))
    for key in given:
        switch = None
        if key.startswith("bnb_4bit_") and not four:
            switch = "load_in_4bit"
        elif key.startswith("llm_int8_") and not (four or eight):
            switch = "load_in_8bit"
        if switch is not None:
            text = f"has no effect without {switch}: true. Add that, or remove it."
            return [Problem(("quantization", key), text)]
    return []


def _reserved(block: Block, key: str) -> str | None:
    reason = rules.RESERVED[block].get(key)
    if reason is not None:
        return reason
    prefixes = rules.RESERVED_PREFIXES[block]
    return next((why for prefix, why in prefixes.items() if key.startswith(prefix)), None)


def _refused(block: Block, key: str) -> str:
    """Why a key that may not be set is refused, and what to do instead."""
    argument = arguments_of(block).get(key)
    new = rules.RENAMED[block].get(key)
    if new is not None and (argument is None or argument.deprecated):
        reason = _reserved(block, new)
        if reason is not None:
            return f"is called {new} now, and cannot be set in a recipe: {reason}. Remove it."
        advice = rules.RANGES[block].get(new, rules.Range()).advice if key == "warmup_ratio" else ""
        return f"is not a key of {class_title(block)}. Use {block}.{new}." + (f" {advice}" if advice else "")
    reason = _reserved(block, key)
    if reason is not None:
        return f"cannot be set in a recipe: {reason}. Remove it."
    if argument is not None and argument.deprecated:
        return f"is deprecated in {class_title(block)}. Remove it."
    if argument is not None:
        return "takes a Python object, which a recipe cannot give. Remove it."
    unknown = f"is not a key of {class_title(block)}."
    near = nearest(key, allowed_arguments(block))
    for other in BLOCKS:
        if other != block and key in rules.RENAMED[other]:
            return f"{unknown} Use {other}.{rules.RENAMED[other][key]}."
    home = next((other for other in BLOCKS if other != block and key in allowed_arguments(other)), None)
    if home is not None:
        return f"{unknown} It belongs in {home}: move it to {home}.{key}."
    return f"{unknown} " + (f"Did you mean {near}?" if near else "Remove it, or look it up in docs/recipes.md.")


def _wrong(block: Block, argument: Argument, value: Any) -> str | None:
    choices, why = choices_of(block, argument)
    if choices:
        if value is None and "null" in argument.kinds:
            return None
        # Compared by type too: 1 is not true here.
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return None
        listed = ", ".join(choice if isinstance(choice, str) else shown(choice) for choice in choices[:_MAX_LISTED])
        if len(choices) > _MAX_LISTED:
            listed += f", ... ({len(choices)} in all)"
        near = nearest(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else None
        rule = f"must be {listed}" if len(choices) == 1 else f"must be one of {listed}"
        hint = why or (f"Did you mean {near}?" if near else "")
        return f"{rule}, got {shown(value)}. {hint}".rstrip()
    if argument.kinds and not _fits(value, argument):
        words = " or ".join(_KIND_WORDS[kind] for kind in _KIND_WORDS if kind in argument.kinds)
        if "list" in argument.kinds and argument.items is not None:
            plural = {"int": "whole numbers", "text": "texts"}.get(argument.items, argument.items)
            words = words.replace("a list", f"a list of {plural}")
        quoted = isinstance(value, str) and argument.kinds & {"int", "float", "bool"}
        hint = "Numbers, true and false stand without quotes." if quoted else ""
        return f"must be {words}, got {shown(value)}. {hint}".rstrip()
    range_ = rules.RANGES[block].get(argument.name)
    if range_ is not None and isinstance(value, int | float) and not range_.admits(value):
        return f"must be {range_}, got {shown(value)}." + (f" {range_.advice}" if range_.advice else "")
    if argument.name == "max_steps" and value < 1 and value != -1:
        return f"must be at least 1, or -1 for no limit, got {shown(value)}. Leave it out to count epochs."
    return None


def _fits(value: Any, argument: Argument) -> bool:
    kinds = argument.kinds
    if value is None:
        return "null" in kinds
    if isinstance(value, bool):  # before int: True is an int for Python
        return "bool" in kinds
    if isinstance(value, int):
        return bool(kinds & {"int", "float"})
    if isinstance(value, float):
        return "float" in kinds
    if isinstance(value, str):
        return "text" in kinds
    if isinstance(value, list):
        inside = {"int": int, "text": str}.get(argument.items or "", object)
        return "list" in kinds and all(isinstance(item, inside) and item is not True for item in value)
    return isinstance(value, Mapping) and "mapping" in kinds


def _as_kind(argument: Argument, value: Any) -> Any:
    meant_float = "float" in argument.kinds and "int" not in argument.kinds
    return float(value) if meant_float and isinstance(value, int) and not isinstance(value, bool) else value
