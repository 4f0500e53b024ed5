"""The recipe as a frozen record, and the words for what can be wrong with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from harness.recipes.arguments import Block
from harness.recipes.blocks import Problem, nearest, normalize, shown

__all__ = ["Base", "Data", "Evaluation", "Recipe", "problems_of"]

_NAME = re.compile(r"[a-z0-9_]+\Z")
# numpy and transformers accept seeds below this.
_MAX_SEED = 2**32


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class _Frozen(BaseModel):
    # strict: "16" is not 16 and true is not 1, whatever Python thinks of them.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Base(_Frozen):
    """The model that is fine-tuned."""

    model: str = Field(
        min_length=1,
        description="smollm2-135m-instruct, a Hugging Face id, or a path that starts with ./, ../ or /",
    )
    revision: str | None = Field(
        default=None, min_length=1, description="branch, tag or commit of a Hugging Face model"
    )


class Data(_Frozen):
    """The data sets, as absolute paths, and how their lines are read."""

    task: Literal["classification", "generation", "chat"] = Field(description="how the examples are written")
    train: Path = Field(description="a JSON Lines file with the training examples")
    validation: Path = Field(description="a JSON Lines file for the validation loss after each epoch")
    test: Path = Field(description="a JSON Lines file that the suites measure on")
    system: str | None = Field(
        default=None, min_length=1, description="system message of every example that brings none of its own"
    )
    labels: Annotated[tuple[str, ...], BeforeValidator(_to_tuple)] = Field(
        default=(), description="every label there is, for the task classification only"
    )

    @field_validator("labels")
    @classmethod
    def _labels_are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if label != label.strip() or not label or "\n" in label:
                text = f"must be texts without space around them, got {shown(label)}."
                raise PydanticCustomError("harness", "{text}", {"text": text})
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            text = f"must be distinct, got {shown(twice)} twice. Remove one."
            raise PydanticCustomError("harness", "{text}", {"text": text})
        return labels

    @model_validator(mode="after")
    def _labels_fit_the_task(self) -> Data:
        if self.task == "classification" and len(self.labels) < 2:
            text = f"must list at least 2 labels for the task classification, got {len(self.labels)}."
            raise PydanticCustomError("harness", "{text}", {"text": text, "at": "labels"})
        if self.task != "classification" and self.labels:
            text = f"is for the task classification only, and data.task is {self.task}. Remove it."
            raise PydanticCustomError("harness", "{text}", {"text": text, "at": "labels"})
        return self


class Evaluation(_Frozen):
    """How the suites measure. Nothing here changes the adapter, so nothing of it is in the fingerprint."""

    few_shot: int = Field(
        default=8, ge=0, description="examples from the training set in the prompt of the prompted_base view"
    )
    max_new_tokens: int = Field(default=96, ge=1, description="limit of a generated answer")
    capability: Path | None = Field(default=None, description="a directory with lm-eval tasks")


class Recipe(_Frozen):
    """A fine-tuning, completely described.

    quantization, lora, training: arguments of BitsAndBytesConfig (empty: no quantization), LoraConfig and
        SFTConfig, checked, with the harness' defaults filled in, keys sorted. Not to be modified.
    source: the file it came from; not a key of the YAML file.
    """

    name: str = Field(description="the name of the file without .yaml: small letters, digits, _")
    description: str = Field(default="", description="one line for the report")
    base: Base
    quantization: Mapping[str, Any] = Field(default_factory=dict, validate_default=True)
    lora: Mapping[str, Any] = Field(default_factory=dict, validate_default=True)
    training: Mapping[str, Any] = Field(default_factory=dict, validate_default=True)
    data: Data
    evaluation: Evaluation = Field(default_factory=Evaluation)
    seed: int = Field(
        default=0, ge=0, lt=_MAX_SEED, description="for weights, data order, dropout and few-shot examples"
    )
    seeds: Annotated[tuple[int, ...], BeforeValidator(_to_tuple)] = Field(
        default=(),
        description="train one adapter with each of these seeds; verdicts then speak of the recipe, not of one of them",
    )
    source: Path

    @field_validator("seeds")
    @classmethod
    def _seeds_are_several(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        text = ""
        if len(seeds) == 1:
            text = f"must name at least 2 seeds, got {shown(list(seeds))}. Write seed: {seeds[0]} for one."
        elif len(set(seeds)) < len(seeds):
            text = f"must be distinct, got {shown(list(seeds))}. Remove one."
        elif any(not 0 <= seed < _MAX_SEED for seed in seeds):
            text = f"must be whole numbers from 0 to {_MAX_SEED - 1}, got {shown(list(seeds))}."
        if text:
            raise PydanticCustomError("harness", "{text}", {"text": text})
        return seeds

    @field_validator("name")
    @classmethod
    def _name_fits_node_ids(cls, name: str) -> str:
        if not _NAME.match(name):
            text = f"must be of small letters, digits and _ only, got {shown(name)}."
            raise PydanticCustomError("harness", "{text}", {"text": text})
        return name

    @field_validator("quantization")
    @classmethod
    def _check_quantization(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return _checked("quantization", value)

    @field_validator("lora")
    @classmethod
    def _check_lora(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return _checked("lora", value)

    @field_validator("training")
    @classmethod
    def _check_training(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return _checked("training", value)


def _checked(block: Block, given: Mapping[str, Any]) -> dict[str, Any]:
    values, problems = normalize(block, given)
    if problems:
        text = "; ".join(f"{problem.path[-1]} {problem.text}" for problem in problems)
        raise PydanticCustomError(
            "harness_block", "{text}", {"text": text, "problems": [(p.path[-1], p.text) for p in problems]}
        )
    return values


_SECTIONS: Mapping[str, type[BaseModel]] = {"base": Base, "data": Data, "evaluation": Evaluation}
# What a misplaced or customary name at some level should have been.
_ELSEWHERE: Mapping[tuple[str, ...], str] = {
    ("dataset",): "data",
    ("datasets",): "data",
    ("eval",): "evaluation",
    ("labels",): "data.labels",
    ("model",): "base.model",
    ("base_model",): "base.model",
    ("peft",): "lora",
    ("peft_config",): "lora",
    ("quantisation",): "quantization",
    ("bnb",): "quantization",
    ("bnb_config",): "quantization",
    ("revision",): "base.revision",
    ("sft",): "training",
    ("system",): "data.system",
    ("task",): "data.task",
    ("trainer",): "training",
    ("training_args",): "training",
    ("training_arguments",): "training",
    ("data", "eval"): "data.validation",
    ("data", "seed"): "seed",
    ("data", "system_prompt"): "data.system",
    ("data", "valid"): "data.validation",
    ("evaluation", "seed"): "seed",
}
_WORDS: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "is_instance_of": "the path of a file, as a text",
    "path_type": "the path of a file, as a text",
    "tuple_type": "a list of texts",
    "mapping_type": "a mapping, lines of the form key: value",
    "model_type": "a mapping, lines of the form key: value",
    "model_attributes_type": "a mapping, lines of the form key: value",
    "dict_type": "a mapping, lines of the form key: value",
}


def problems_of(error: ErrorDetails, top_level_keys: tuple[str, ...]) -> list[Problem]:
    """One pydantic error in the words of this project; a block's error holds several problems."""
    path = tuple(str(part) for part in error["loc"])
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "harness_block":
        return [Problem((*path, key), text) for key, text in context["problems"]]
    if kind == "harness":
        return [Problem((*path, context["at"]) if "at" in context else path, str(context["text"]))]
    return [Problem(path, _text(path, kind, value, context, top_level_keys))]


def _text(
    path: tuple[str, ...], kind: str, value: Any, context: Mapping[str, Any], top_level_keys: tuple[str, ...]
) -> str:
    if kind == "missing":
        field = (_SECTIONS[path[0]] if len(path) > 1 else Recipe).model_fields[path[-1]]
        return "is missing. Add it" + (f": {field.description}." if field.description else ".")
    if kind == "extra_forbidden":
        names = top_level_keys if len(path) == 1 else tuple(_SECTIONS[path[0]].model_fields)
        meant = _ELSEWHERE.get(path) or nearest(path[-1], names)
        where = "a recipe" if len(path) == 1 else path[0]
        return f"is not a key of {where}. " + (
            f"Did you mean {meant}?" if meant else f"The keys are {', '.join(names)}."
        )
    if kind == "literal_error":
        near = nearest(value, ("classification", "generation", "chat")) if isinstance(value, str) else None
        hint = f" Did you mean {near}?" if near else ""
        return f"must be classification, generation or chat, got {shown(value)}.{hint}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}, got {shown(value)}."
    if kind == "less_than":
        return f"must be below {context['lt']}, got {shown(value)}."
    if kind == "string_too_short":
        return "must not be empty."
    wanted = "a list of whole numbers" if path == ("seeds",) and kind == "tuple_type" else _WORDS.get(kind)
    if wanted is None:
        return f"cannot be used, got {shown(value)}."
    quotes = " Put it in quotes." if kind == "string_type" and isinstance(value, bool | int | float) else ""
    return f"must be {wanted}, got {'null' if value is None else shown(value)}.{quotes}"
