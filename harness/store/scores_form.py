"""Scores as JSON: what statistics need to run again, without a model and without the answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.errors import StoreError
from harness.records import Scores

__all__ = ["read_scores", "scores_json"]

_FORM = 1


def scores_json(scores: Mapping[str, Iterable[Scores]]) -> str:
    """The scores of every recipe as text.

    The measures of a test set share their columns (ids, labels, groups, slices), so each distinct column is written
    once and referred to by its place. A value that is not finite is null, which JSON can hold.
    Raises StoreError for scores of a suite's own measure that hold something else than text and numbers.
    """
    columns: dict[tuple[Any, ...], int] = {}

    def place(column: Sequence[Any] | None) -> int | None:
        return None if column is None else columns.setdefault(tuple(column), len(columns))

    try:
        recipes = {name: [_form(one, place) for one in of_recipe] for name, of_recipe in scores.items()}
        form = {"form": _FORM, "columns": [list(column) for column in columns], "recipes": recipes}
        return json.dumps(form, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"scores cannot be written as JSON ({error}); give measures text and plain numbers") from error


def _form(scores: Scores, place: Any) -> dict[str, Any]:
    # 1.0 and 1 are one key of a dict, and so would be a column of numbers and one of the same numbers as integers.
    values = [float(value) if math.isfinite(value) else None for value in scores.values]
    return {
        "measure": scores.measure,
        "view": scores.view,
        "ids": place(scores.ids),
        "values": place(values),
        "n_expected": scores.n_expected,
        "statistic": scores.statistic,
        "truth": place(scores.truth),
        "predicted": place(scores.predicted),
        "labels": place(scores.labels),
        "groups": place(scores.groups),
        "slices": {name: place(column) for name, column in scores.slices.items()},
        "bounds": [float(bound) if math.isfinite(bound) else None for bound in scores.bounds],
        "unscored": dict(scores.unscored),
        "note": scores.note,
        "chance": scores.chance,
        "compared_with": scores.compared_with,
        "details": dict(scores.details),
        "human": place(None if scores.human is None else [None if g is None else float(g) for g in scores.human]),
        "replicates": [_form(one, place) for one in scores.replicates],
    }


def read_scores(text: str) -> dict[str, tuple[Scores, ...]]:
    """The scores that scores_json wrote: recipe -> its scores. Raises StoreError for text that it did not write."""
    try:
        found = json.loads(text)
        if found["form"] != _FORM:
            raise StoreError(
                f"the scores are of form {found['form']!r}, this harness reads {_FORM}; use the version of the harness "
                "that wrote them"
            )
        columns = [tuple(column) for column in found["columns"]]
        return {name: tuple(_scores(one, columns) for one in forms) for name, forms in found["recipes"].items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"these are no scores as the harness writes them ({type(error).__name__}: {error}); run the suites again"
        ) from None


def _scores(form: Mapping[str, Any], columns: Sequence[tuple[Any, ...]]) -> Scores:
    def column(place: int | None) -> Any:
        return None if place is None else columns[place]

    low, high = form["bounds"]
    return Scores(
        measure=form["measure"],
        view=form["view"],
        ids=column(form["ids"]),
        values=tuple(math.nan if value is None else value for value in column(form["values"])),
        n_expected=form["n_expected"],
        statistic=form["statistic"],
        truth=column(form["truth"]),
        predicted=column(form["predicted"]),
        labels=column(form["labels"]),
        groups=column(form["groups"]),
        slices={name: column(place) for name, place in form["slices"].items()},
        bounds=(-math.inf if low is None else low, math.inf if high is None else high),
        unscored=form["unscored"],
        note=form["note"],
        chance=form["chance"],
        compared_with=form["compared_with"],
        details=form["details"],
        human=column(form.get("human")),
        replicates=tuple(_scores(one, columns) for one in form.get("replicates", ())),
    )
