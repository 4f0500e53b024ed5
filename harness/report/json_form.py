"""Run <-> the text of report.json.

The form is declared once, below, and holds in both directions: what is written has passed the same checks
as what is read. docs/report.schema.json says the same to other programs.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from harness.errors import ReportError
from harness.records import (
    Drivers,
    GateResult,
    IntegrityCheck,
    JudgingSummary,
    MeasureResult,
    Outcome,
    RecipeResult,
    Rule,
    RuleKind,
    Run,
    SeedResult,
    SliceShare,
    TermCount,
    TrainingSummary,
    Verdict,
)
from harness.report.wording import one_line

__all__ = ["SCHEMA_VERSION", "read_report", "report_json"]

SCHEMA_VERSION = 3

# What JSON allows raw and a reader cannot see or an encoder refuses: C1 controls, marks that turn the
# direction of text, line separators, halves of surrogate pairs. As \uXXXX they mean the same.
_HIDDEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# Whole numbers beyond this are rounded by programs that read every JSON number as a double.
_LARGEST_COUNT = 2**53
# In bits. Python refuses to read integers of more than 4,300 digits.
_LONGEST_INTEGER = 4096

# A kind checks a value found at a place and gives it back in plain form.
_Kind = Callable[[object, str], Any]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def report_json(run: Run) -> str:
    """The run as the text of report.json: the same run gives the same text, without a clock or a path.

    Mappings that are free in form (calibration, config, data, details, provenance, samples) are sorted by key; a
    tuple in them is written, and read back, as a list.
    Raises ReportError, naming the field, for what JSON cannot hold: NaN, infinity, objects.
    """
    try:
        form = _run_form(_form_of(run), "")
        text = json.dumps(form, ensure_ascii=False, allow_nan=False, indent=2)
    except RecursionError:
        raise ReportError(
            "report.json: the run is nested too deeply, or a mapping contains itself; flatten its config, "
            "data, details or provenance"
        ) from None
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def read_report(text: str) -> Run:
    """The run that report_json wrote as `text`.

    Raises ReportError, in one line, for text that is not such a report: not JSON, another version, a key
    missing or unknown, a value of the wrong type.
    """
    try:
        found = json.loads(text, parse_constant=_constant, object_pairs_hook=_once)
    except RecursionError:
        raise ReportError(
            "report.json is nested too deeply to be a report; use the file that the harness wrote"
        ) from None
    except ValueError as error:
        raise ReportError(
            f"report.json is not JSON: {one_line(str(error), 200)}; use the file that the harness wrote, or "
            "run the suites again"
        ) from None
    if isinstance(found, dict) and "schema_version" in found:
        version = found["schema_version"]
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise ReportError(
                f"report.json has schema_version {_shown(version)}, this harness reads {SCHEMA_VERSION}; "
                "render it with the version of the harness that wrote it"
            )
    try:
        form = _run_form(found, "")
    except RecursionError:
        raise ReportError(
            "report.json is nested too deeply to be a report; use the file that the harness wrote"
        ) from None
    return Run(
        **{
            **form,
            "outcome": Outcome(form["outcome"]),
            "recipes": tuple(_recipe_from(recipe) for recipe in form["recipes"]),
            "problems": tuple(form["problems"]),
        }
    )


def _constant(name: str) -> object:
    raise ValueError(f"it has {name}, and a missing number is null with a reason")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return mapping


# ---- kinds


def _wrong(where: str, wanted: str, value: object) -> ReportError:
    return ReportError(
        f"report.json: {_place(where)} must be {wanted}, found {_shown(value)}; use a report as the harness wrote it"
    )


def _place(where: str) -> str:
    return one_line(where, 200) or "the top level"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    try:
        return one_line(json.dumps(value), 60)
    except (TypeError, ValueError):
        return f"a {type(value).__name__}"


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(where, "a number", value)
    return _finite(value, where)


def _finite(value: int | float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ReportError(
            f"report.json: {_place(where)} is {number}; a number that is missing must be null (None) with a "
            "reason, never NaN or infinite"
        )
    return number


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_COUNT:
        raise _wrong(where, "a whole number from 0 to 2^53", value)
    return int(value)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def _version(value: object, where: str) -> int:
    if isinstance(value, bool) or value != SCHEMA_VERSION:
        raise _wrong(where, str(SCHEMA_VERSION), value)
    return SCHEMA_VERSION


def _one_of(words: type[StrEnum]) -> _Kind:
    def check(value: object, where: str) -> str:
        known = [word.value for word in words]
        if value not in known:
            raise _wrong(where, f"one of {', '.join(known)}", value)
        return words(value).value

    return check


def _optional(kind: _Kind) -> _Kind:
    return lambda value, where: None if value is None else kind(value, where)


def _array(kind: _Kind) -> _Kind:
    def check(value: object, where: str) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise _wrong(where, "an array", value)
        return [kind(item, f"{where}[{k}]") for k, item in enumerate(value)]

    return check


def _step(value: object, where: str) -> list[int | float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise _wrong(where, "a pair of step and loss", value)
    return [_whole(value[0], f"{where}[0]"), _number(value[1], f"{where}[1]")]


def _free(value: object, where: str) -> Any:
    """Any plain JSON value, mappings sorted by key."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() > _LONGEST_INTEGER:
            raise ReportError(f"report.json: {_place(where)} is an integer too long for JSON; write it as text")
        return int(value)
    if isinstance(value, float):
        return _finite(value, where)
    if isinstance(value, Mapping):
        return _free_map(value, where)
    if isinstance(value, list | tuple):
        return [_free(item, f"{where}[{k}]") for k, item in enumerate(value)]
    raise ReportError(
        f"report.json: {_place(where)} is a {type(value).__name__}, which JSON cannot hold; convert it to "
        "text, a number, a list or a mapping first"
    )


def _free_map(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    for key in value:
        if not isinstance(key, str):
            raise _wrong(f"a key of {where}", "text", key)
    return {key: _free(value[key], _under(where, key)) for key in sorted(value)}


def _object(fields: Mapping[str, _Kind], missing: Mapping[str, Any] = _NOTHING) -> _Kind:
    """missing: what a key counts as that reports did not have when they were first written."""

    def check(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        for key in value:
            if key not in fields:
                near = difflib.get_close_matches(str(key), fields, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
                raise ReportError(f"report.json: {_place(where)} has an unknown key {_shown(key)}; {hint}")
        for key in fields:
            if key not in value and key not in missing:
                raise ReportError(f"report.json: {_place(where)} has no {key}; use a report as the harness wrote it")
        found = {**missing, **value}
        return {key: kind(found[key], _under(where, key)) for key, kind in fields.items()}

    return check


def _under(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _ids_once(run: dict[str, Any]) -> dict[str, Any]:
    seen: set[str] = set()
    for recipe in run["recipes"]:
        for gate in recipe["gates"]:
            if gate["id"] in seen:
                raise ReportError(
                    f"report.json: two gates have the id {_shown(gate['id'])}; a gate's id is unique in a run"
                )
            seen.add(gate["id"])
    return run


# ---- the form: keys in the order of the file

_SLICE: dict[str, _Kind] = {"name": _text, "value": _text, "n": _whole, "contribution": _number}

_TERM: dict[str, _Kind] = {"term": _text, "failing": _whole, "others": _whole, "z": _number}

_DRIVERS: dict[str, _Kind] = {
    "slices": _array(_object(_SLICE)),
    "failing": _array(_text),
    "n_failing": _whole,
    "n_others": _whole,
    "terms": _array(_object(_TERM)),
}

_RULE: dict[str, _Kind] = {
    "at_least": _optional(_number),
    "at_most": _optional(_number),
    "compared_with": _optional(_text),
    "max_drop": _optional(_number),
    "min_gain": _optional(_number),
    "decide": _text,
    "confidence": _number,
    "must_pass": _array(_text),
    "n": _optional(_whole),
    "early_stop": _flag,
}

_VERDICT: dict[str, _Kind] = {
    "measure": _text,
    "view": _text,
    "slice_name": _optional(_text),
    "slice_value": _optional(_text),
    "kind": _one_of(RuleKind),
    "rule": _text,
    "outcome": _one_of(Outcome),
    "value": _optional(_number),
    "low": _optional(_number),
    "high": _optional(_number),
    "lowest": _optional(_number),
    "highest": _optional(_number),
    "threshold": _optional(_number),
    "at_least": _optional(_number),
    "at_most": _optional(_number),
    "compared_with": _optional(_text),
    "baseline": _optional(_number),
    "difference": _optional(_number),
    "difference_low": _optional(_number),
    "difference_high": _optional(_number),
    "margin": _optional(_number),
    "n": _whole,
    "reason": _text,
    "confidence": _optional(_number),
    "p_value": _optional(_number),
    "after_holm": _optional(_flag),
    "warning": _text,
    "must_pass_failed": _array(_text),
    "drivers": _optional(_object(_DRIVERS)),
    "method": _text,
    "note": _text,
    "asked": _optional(_object(_RULE, {"early_stop": False})),
    "out_of": _optional(_whole),
}

# Keys that came later: a report without them is read, and cannot be promoted.
_LATER_IN_GATE: Mapping[str, Any] = {"asked": None, "out_of": None}

_GATE: dict[str, _Kind] = {"id": _text, "test": _text, **_VERDICT}

_MEASURE: dict[str, _Kind] = {
    "name": _text,
    "view": _text,
    "value": _optional(_number),
    "low": _optional(_number),
    "high": _optional(_number),
    "n": _whole,
    "n_unscored": _whole,
    "method": _text,
    "note": _text,
    "details": _free_map,
}

_CHECK: dict[str, _Kind] = {"name": _text, "passed": _flag, "detail": _text}

_TRAINING: dict[str, _Kind] = {
    "seconds": _number,
    "tokens": _whole,
    "steps": _whole,
    "max_steps": _whole,
    "loss": _array(_step),
    "validation_loss": _array(_step),
}

_SEED: dict[str, _Kind] = {"seed": _whole, "adapter_digest": _text, "validation_loss": _number, "promotable": _flag}

_JUDGING: dict[str, _Kind] = {
    "judges": _array(_text),
    "graded": _whole,
    "from_cache": _whole,
    "unscored": _whole,
    "calls": _whole,
    "unknown_calls": _whole,
    "input_tokens": _whole,
    "cache_write_tokens": _whole,
    "cache_read_tokens": _whole,
    "output_tokens": _whole,
    "cost_usd": _optional(_number),
    "budget_usd": _optional(_number),
    "prices_as_of": _text,
}

_RECIPE: dict[str, _Kind] = {
    "name": _text,
    "description": _text,
    "base": _text,
    "fingerprint": _text,
    "adapter_digest": _optional(_text),
    "from_store": _optional(_flag),
    "problem": _optional(_text),
    "integrity": _array(_object(_CHECK)),
    "gates": _array(_object(_GATE, _LATER_IN_GATE)),
    "measures": _array(_object(_MEASURE)),
    "training": _optional(_object(_TRAINING)),
    "samples": _array(_free_map),
    "config": _free_map,
    "data": _free_map,
    "base_digest": _optional(_text),
    "suites": _free_map,
    "tests": _free_map,
    "promoted": _free_map,
    "seeds": _array(_object(_SEED)),
    "judging": _optional(_object(_JUDGING)),
    "calibration": _free_map,
}

_LATER_IN_RECIPE: Mapping[str, Any] = {
    "base_digest": None,
    "suites": {},
    "tests": {},
    "promoted": {},
    "seeds": (),
    "judging": None,
    "calibration": {},
}

_TOP: dict[str, _Kind] = {
    "schema_version": _version,
    "run_id": _text,
    "outcome": _one_of(Outcome),
    "started_at": _text,
    "duration_seconds": _number,
    "problems": _array(_text),
    "recipes": _array(_object(_RECIPE, _LATER_IN_RECIPE)),
    "provenance": _free_map,
}


def _run_form(value: object, where: str) -> dict[str, Any]:
    return _ids_once(_object(_TOP)(value, where))


def _form_of(run: Run) -> dict[str, Any]:
    return {**_fields(run, _TOP), "recipes": [_recipe_form(recipe) for recipe in run.recipes]}


def _recipe_form(recipe: RecipeResult) -> dict[str, Any]:
    return {
        **_fields(recipe, _RECIPE),
        "gates": [{"id": gate.id, "test": gate.test, **_verdict_form(gate.verdict)} for gate in recipe.gates],
        "integrity": [_fields(check, _CHECK) for check in recipe.integrity],
        "measures": [_fields(measure, _MEASURE) for measure in recipe.measures],
        "training": None if recipe.training is None else _fields(recipe.training, _TRAINING),
        "seeds": [_fields(seed, _SEED) for seed in recipe.seeds],
        "judging": None if recipe.judging is None else _fields(recipe.judging, _JUDGING),
    }


def _verdict_form(verdict: Verdict) -> dict[str, Any]:
    asked = None if verdict.asked is None else _fields(verdict.asked, _RULE)
    return {**_fields(verdict, _VERDICT), "drivers": _drivers_form(verdict.drivers), "asked": asked}


def _drivers_form(drivers: Drivers | None) -> dict[str, Any] | None:
    if drivers is None:
        return None
    return {
        **_fields(drivers, _DRIVERS),
        "slices": [_fields(share, _SLICE) for share in drivers.slices],
        "terms": [_fields(term, _TERM) for term in drivers.terms],
    }


def _fields(record: object, form: Mapping[str, _Kind]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in form}


def _recipe_from(form: dict[str, Any]) -> RecipeResult:
    return RecipeResult(
        **{
            **form,
            "gates": tuple(_gate_from(gate) for gate in form["gates"]),
            "integrity": tuple(IntegrityCheck(**check) for check in form["integrity"]),
            "measures": tuple(MeasureResult(**measure) for measure in form["measures"]),
            "training": None if form["training"] is None else _training_from(form["training"]),
            "samples": tuple(form["samples"]),
            "seeds": tuple(SeedResult(**seed) for seed in form["seeds"]),
            "judging": None if form["judging"] is None else _judging_from(form["judging"]),
        }
    )


def _gate_from(form: dict[str, Any]) -> GateResult:
    verdict = {name: form[name] for name in _VERDICT}
    verdict["outcome"] = Outcome(verdict["outcome"])
    verdict["kind"] = RuleKind(verdict["kind"])
    verdict["must_pass_failed"] = tuple(verdict["must_pass_failed"])
    verdict["drivers"] = None if verdict["drivers"] is None else _drivers_from(verdict["drivers"])
    asked = verdict["asked"]
    verdict["asked"] = None if asked is None else Rule(**{**asked, "must_pass": tuple(asked["must_pass"])})
    return GateResult(form["id"], form["test"], Verdict(**verdict))


def _drivers_from(form: dict[str, Any]) -> Drivers:
    return Drivers(
        **{
            **form,
            "slices": tuple(SliceShare(**share) for share in form["slices"]),
            "failing": tuple(form["failing"]),
            "terms": tuple(TermCount(**term) for term in form["terms"]),
        }
    )


def _training_from(form: dict[str, Any]) -> TrainingSummary:
    series = {name: tuple((step, loss) for step, loss in form[name]) for name in ("loss", "validation_loss")}
    return TrainingSummary(**{**form, **series})


def _judging_from(form: dict[str, Any]) -> JudgingSummary:
    return JudgingSummary(**{**form, "judges": tuple(form["judges"])})
