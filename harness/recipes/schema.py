"""The JSON Schema of recipe files, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.recipes import rules
from harness.recipes.arguments import BLOCKS, Argument, Block, Kind
from harness.recipes.blocks import allowed_arguments, choices_of
from harness.recipes.recipe import Base, Data, Evaluation, Recipe

__all__ = ["recipe_schema"]

_TYPES: Mapping[Kind, str] = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "text": "string",
    "list": "array",
    "mapping": "object",
    "null": "null",
}
_BLOCK_WORDS: Mapping[Block, str] = {
    "quantization": "arguments of transformers' BitsAndBytesConfig; leave it out for an unquantized base",
    "lora": "arguments of peft's LoraConfig",
    "training": "arguments of trl's SFTConfig",
}


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe file.

    It knows names, types, ranges and choices. Rules between keys and files are left to `load_recipe`: whether
    a parent exists, whether the name is that of the file, which keys go together.
    """
    own = Recipe.model_json_schema()["properties"]
    properties: dict[str, Any] = {
        "name": {**own["name"], "pattern": "^[a-z0-9_]+$"},
        "extends": {
            "description": "a recipe of the same directory, or a path to one, whose values are taken over",
            "type": "string",
            "minLength": 1,
        },
        "description": own["description"],
        "base": _section(Base),
        **{block: _block(block) for block in BLOCKS},
        "data": _section(Data),
        "evaluation": _section(Evaluation),
        "seed": own["seed"],
        "seeds": {**own["seeds"], "minItems": 2, "uniqueItems": True},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe of pytest-adapter-harness",
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {key: _without_titles(value) for key, value in properties.items()},
        # A recipe that extends another needs to say only what differs.
        "anyOf": [
            {"required": ["extends"]},
            {
                "required": ["base", "data"],
                "properties": {
                    "base": {"required": _required(Base)},
                    "data": {"required": _required(Data)},
                },
            },
        ],
    }


def _section(model: type[Base] | type[Data] | type[Evaluation]) -> dict[str, Any]:
    schema = model.model_json_schema()
    properties = schema["properties"]
    if model is Data:
        properties["labels"].update({"minItems": 2, "uniqueItems": True})
        properties["labels"].pop("default", None)
    return {
        "description": (model.__doc__ or "").rstrip("."),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _required(model: type[Base] | type[Data]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _block(block: Block) -> dict[str, Any]:
    allowed = allowed_arguments(block)
    return {
        "description": _BLOCK_WORDS[block],
        # null removes what a parent gave.
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {name: _argument(block, allowed[name]) for name in sorted(allowed)},
    }


def _argument(block: Block, argument: Argument) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if argument.name in rules.DEFAULTS[block]:
        schema["default"] = rules.DEFAULTS[block][argument.name]
    choices, why = choices_of(block, argument)
    if choices:
        return {**schema, "enum": [*choices, None], **({"description": why} if why else {})}
    if argument.kinds:
        schema["type"] = sorted({*(_TYPES[kind] for kind in argument.kinds), "null"})
        if argument.items is not None:
            schema["items"] = {"type": _TYPES[argument.items]}
    limits = rules.RANGES[block].get(argument.name)
    if limits is not None:
        if limits.low is not None:
            schema["exclusiveMinimum" if limits.low_open else "minimum"] = limits.low
        if limits.high is not None:
            schema["exclusiveMaximum" if limits.high_open else "maximum"] = limits.high
        if limits.advice:
            schema["description"] = limits.advice
    return schema


def _without_titles(schema: Any) -> Any:
    """The schema without pydantic's titles, which repeat the keys. `title` is no key of a recipe."""
    if isinstance(schema, dict):
        return {key: _without_titles(value) for key, value in schema.items() if key != "title"}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema
