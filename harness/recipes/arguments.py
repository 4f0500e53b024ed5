"""The arguments that BitsAndBytesConfig, LoraConfig and SFTConfig take, read from the installed sources.

Importing these classes costs seconds (they bring torch along), and a recipe must be checked before any test
is collected. So their fields are read with `ast`: the names always, and the types where an annotation is
simple.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import RecipeError

__all__ = ["BLOCKS", "Argument", "Block", "Kind", "arguments_of", "class_title"]

Block = Literal["quantization", "lora", "training"]
Kind = Literal["int", "float", "bool", "text", "null", "list", "mapping"]
BLOCKS: tuple[Block, ...] = ("quantization", "lora", "training")


class _Class(NamedTuple):
    package: str
    file: str
    name: str


# From the most basic class to the one the recipe names; a later class overrides a field of an earlier one.
_CLASSES: Mapping[Block, tuple[_Class, ...]] = {
    "quantization": (_Class("transformers", "utils/quantization_config.py", "BitsAndBytesConfig"),),
    "lora": (
        _Class("peft", "config.py", "PeftConfigMixin"),
        _Class("peft", "config.py", "PeftConfig"),
        _Class("peft", "tuners/lora/config.py", "LoraConfig"),
    ),
    "training": (
        _Class("transformers", "training_args.py", "TrainingArguments"),
        _Class("trl", "trainer/base_config.py", "_BaseConfig"),
        _Class("trl", "trainer/sft_config.py", "SFTConfig"),
    ),
}
# A text argument whose values are the members of an enumeration.
_ENUMS: Mapping[tuple[Block, str], _Class] = {
    ("training", "lr_scheduler_type"): _Class("transformers", "trainer_utils.py", "SchedulerType"),
    ("training", "optim"): _Class("transformers", "training_args.py", "OptimizerNames"),
}
_KIND_OF_NAME: Mapping[str, Kind] = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "text",
    "None": "null",
    "list": "list",
    "List": "list",
    "dict": "mapping",
    "Dict": "mapping",
}

_DEPRECATED = re.compile(r"Deprecated|.*\. Deprecated in ")
_INSTALL = "install the version in constraints.txt"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a library's configuration class.

    kinds: what its value may be; empty where the source does not say, and then anything goes.
    choices: the texts that are allowed; empty if any is. items: the kind of a list's items, if known.
    takes_object: only a Python object fits, which a recipe cannot write.
    """

    name: str
    kinds: frozenset[Kind] = frozenset()
    choices: tuple[str, ...] = ()
    items: Kind | None = None
    takes_object: bool = False
    deprecated: bool = False


# Known from the library's documentation, since neither an annotation nor the default says it.
_UNTYPED = {
    "llm_int8_skip_modules": Argument("llm_int8_skip_modules", frozenset({"list", "null"}), items="text"),
}


@cache
def arguments_of(block: Block) -> Mapping[str, Argument]:
    """The arguments of the class behind a block, by name, in the order of the source.

    Raises RecipeError if the library is not installed or its source has another shape.
    """
    found: dict[str, Argument] = {}
    for described in _CLASSES[block]:
        fields = _parameters(described) if block == "quantization" else _fields(described)
        for argument in fields:
            enum = _ENUMS.get((block, argument.name))
            if enum is not None:
                argument = Argument(argument.name, frozenset({"text"}), choices=_enum_values(enum))
            found[argument.name] = argument
    return found


def class_title(block: Block) -> str:
    """The class behind a block as messages name it, e.g. "LoraConfig (peft 0.21.2)"."""
    # Imported here: it takes 20 ms, and only messages need a version.
    import importlib.metadata

    described = _CLASSES[block][-1]
    try:
        version = importlib.metadata.version(described.package)
    except importlib.metadata.PackageNotFoundError:
        return f"{described.name} ({described.package})"
    return f"{described.name} ({described.package} {version})"


@cache
def _source(package: str, file: str) -> str:
    # find_spec of a top-level package finds its directory without running any of its code.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(f"{package} is not installed, and recipes are checked against it; install it")
    path = Path(next(iter(spec.submodule_search_locations))) / file
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise RecipeError(f"{package} has no file {file}, so recipes cannot be checked; {_INSTALL}") from None


def _class_body(described: _Class, *, fields_only: bool) -> list[ast.stmt]:
    """The statements of a class; only its own lines are parsed, since these files are long."""
    text = _source(described.package, described.file)
    start = re.search(rf"^class {described.name}\b", text, re.MULTILINE)
    if start is None:
        raise RecipeError(
            f"{described.package} has no class {described.name} in {described.file}, "
            f"so recipes cannot be checked; {_INSTALL}"
        )
    # Fields of a dataclass stand before its methods; not parsing the methods saves half of the time.
    end_pattern = r"\n(?=\S|    (def |@))" if fields_only else r"\n(?=\S)"
    end = re.compile(end_pattern).search(text, start.end())
    tree = ast.parse(text[start.start() : end.start() if end else len(text)])
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    return definition.body


def _fields(described: _Class) -> Iterator[Argument]:
    for statement in _class_body(described, fields_only=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = statement.target.id
        if name.startswith("_"):
            continue
        type_ = _Annotation()
        type_.read(statement.annotation)
        metadata = _metadata(statement.value)
        listed = metadata.get("choices", ())
        yield Argument(
            name,
            kinds=frozenset() if type_.other else frozenset(type_.kinds),
            choices=tuple(type_.choices) or tuple(listed if isinstance(listed, list) else ()),
            items=type_.items,
            takes_object=type_.other and type_.kinds <= {"null"},
            deprecated=_DEPRECATED.match(str(metadata.get("help", ""))) is not None,
        )


def _metadata(value: ast.expr | None) -> dict[str, object]:
    """The literal entries of `metadata={...}` in a `field(...)` call."""
    entries: dict[str, object] = {}
    if not isinstance(value, ast.Call):
        return entries
    for keyword in value.keywords:
        if keyword.arg != "metadata" or not isinstance(keyword.value, ast.Dict):
            continue
        for key, item in zip(keyword.value.keys, keyword.value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                try:
                    entries[key.value] = ast.literal_eval(item)
                except ValueError:
                    continue  # computed at import: a default exists, but no fixed list
    return entries


class _Annotation:
    """Collects what a type annotation admits: kinds, texts of a Literal, and whether other types occur."""

    def __init__(self) -> None:
        self.kinds: set[Kind] = set()
        self.choices: list[str] = []
        self.items: Kind | None = None
        self.other = False

    def read(self, node: ast.expr) -> None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            self.read(node.left)
            self.read(node.right)
        elif isinstance(node, ast.Constant) and node.value is None:
            self.kinds.add("null")
        elif isinstance(node, ast.Name) and node.id in _KIND_OF_NAME:
            self.kinds.add(_KIND_OF_NAME[node.id])
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            self._read_generic(node.value.id, node.slice)
        else:
            self.other = True

    def _read_generic(self, name: str, inside: ast.expr) -> None:
        members = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        if name in {"Optional", "Union"}:
            if name == "Optional":
                self.kinds.add("null")
            for member in members:
                self.read(member)
        elif name == "Literal":
            for member in members:
                self._read_literal(member)
        elif name in {"list", "List"}:
            self.kinds.add("list")
            if isinstance(inside, ast.Name) and inside.id in _KIND_OF_NAME:
                self.items = _KIND_OF_NAME[inside.id]
        elif name in {"dict", "Dict"}:
            self.kinds.add("mapping")
        else:
            self.other = True

    def _read_literal(self, member: ast.expr) -> None:
        value = member.value if isinstance(member, ast.Constant) else None
        if isinstance(value, bool):
            self.kinds.add("bool")
        elif isinstance(value, str):
            self.kinds.add("text")
            self.choices.append(value)
        else:
            self.other = True


def _parameters(described: _Class) -> Iterator[Argument]:
    """The keyword parameters of __init__, with the kind of their defaults; None as a default says nothing."""
    for statement in _class_body(described, fields_only=False):
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            parameters = statement.args.args[1:]
            for parameter, default in zip(parameters, statement.args.defaults, strict=True):
                value = default.value if isinstance(default, ast.Constant) else None
                kind = _KIND_OF_NAME.get(type(value).__name__)
                untyped = _UNTYPED.get(parameter.arg, Argument(parameter.arg))
                yield Argument(parameter.arg, kinds=frozenset({kind})) if kind is not None else untyped
            return
    raise RecipeError(
        f"{described.name} of {described.package} has no __init__, so recipes cannot be checked; "
        "install the version in constraints.txt"
    )


@cache
def _enum_values(described: _Class) -> tuple[str, ...]:
    return tuple(
        statement.value.value
        for statement in _class_body(described, fields_only=True)
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
