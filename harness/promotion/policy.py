"""Whether a gate asks less than it did at the last promotion. What cannot be compared counts as loosened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["loosened"]

# What the adapter is trained on is no policy; everything else in the data decides what the gates see.
_TRAINED_ON = ("train", "validation")
_COMPARED_BASES = ("base", "prompted_base")


def loosened(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What the second of two promotions' evidence demands less than the first, one clause each.

    before, now: as harness.promotion.evidence.facts gives them. A demand is kept if some gate on the same measure,
    view and slice asks at least as much, so a test may be renamed or split. More gates and stricter ones are no
    change of policy.
    """
    changes: list[str] = []
    for gate in before["gates"]:
        same = [other for other in now["gates"] if _place(other) == _place(gate)]
        if not same:
            changes.append(f"{gate['id']}: removed")
            continue
        ways = [_looser(gate, other) for other in same]
        if all(ways):
            named = [way for way, other in zip(ways, same, strict=True) if other["id"] == gate["id"]]
            changes.append(f"{gate['id']}: {', '.join((named or ways)[0])}")
    return (*changes, *_other_test(before, now))


def _place(gate: Mapping[str, Any]) -> tuple[Any, ...]:
    return gate["measure"], gate["view"], gate["slice_name"], gate["slice_value"]


def _looser(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In which ways a gate asks less than another on the same measure."""
    ways = []
    if now["n"] < before["n"]:
        ways.append(f"{now['n']} examples instead of {before['n']}")
    if "stand-in" in now["note"] and "stand-in" not in before["note"]:
        ways.append("graded by a stand-in judge")
    old, new = before["asked"], now["asked"]
    if old is None or new is None:
        return [*ways, "its rule was not recorded and cannot be compared"]
    ways += _lower(old, new, "at_least") + _lower(old, new, "min_gain")
    ways += _higher(old, new, "at_most")
    if new["min_gain"] is None:  # a gain is more than any drop that is allowed
        ways += _higher(old, new, "max_drop")
    if old["compared_with"] != new["compared_with"] and old["compared_with"] is not None:
        ways.append(f"compared with {new['compared_with'] or 'nothing'} instead of {old['compared_with']}")
    if old["decide"] == "confident" and _has_number(old):
        if new["decide"] != "confident":
            ways.append("decided by the point instead of with confidence")
        elif new["confidence"] < old["confidence"]:
            ways.append(f"confidence {new['confidence']:g} instead of {old['confidence']:g}")
    dropped = [example for example in old["must_pass"] if example not in new["must_pass"]]
    if dropped:
        ways.append(f"{', '.join(dropped[:5])} no longer must pass")
    ways += _lower(old, new, "n")
    return ways


def _has_number(rule: Mapping[str, Any]) -> bool:
    return any(rule[name] is not None for name in ("at_least", "at_most", "max_drop", "min_gain"))


def _lower(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> list[str]:
    if old[name] is None or (new[name] is not None and new[name] >= old[name]):
        return []
    return [_instead(old, new, name)]


def _higher(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> list[str]:
    if old[name] is None or (new[name] is not None and new[name] <= old[name]):
        return []
    return [_instead(old, new, name)]


def _instead(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> str:
    if new[name] is None:
        return f"{name}={old[name]:g} removed"
    return f"{name}={new[name]:g} instead of {old[name]:g}"


def _other_test(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    """What the same rules were decided on, where that is not the same any more."""
    changes = []
    for name, digest in before["data"].items():
        if name not in _TRAINED_ON and now["data"].get(name) != digest:
            changes.append(f"{name}: {'other examples' if name in now['data'] else 'no longer measured'}")
    compared = {gate["asked"]["compared_with"] for gate in before["gates"] if gate["asked"] is not None}
    if compared.intersection(_COMPARED_BASES) and before["base"]["digest"] != now["base"]["digest"]:
        changes.append("base: the gates compare with another base model")
    if "prompted_base" in compared:
        old, new = (evidence["evaluation"].get("few_shot", 0) for evidence in (before, now))
        if new < old:
            changes.append(f"prompted_base: {new} worked examples instead of {old}")
    return changes
