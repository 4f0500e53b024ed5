"""What a judge grades by: criteria, each with a weight and a description of every grade."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.errors import RubricError
from harness.judging.protocol import HIGHEST_GRADE, LOWEST_GRADE

__all__ = ["Criterion", "Rubric", "load_rubric"]

GRADES = tuple(range(LOWEST_GRADE, HIGHEST_GRADE + 1))

_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True)


class Criterion(BaseModel):
    """One thing that is graded. anchors: grade -> what an answer of that grade is like, 1 to 5."""

    model_config = _STRICT

    name: _Name
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    anchors: Mapping[int, _Text]

    @field_validator("anchors")
    @classmethod
    def _every_grade(cls, anchors: Mapping[int, str]) -> Mapping[int, str]:
        if sorted(anchors) != list(GRADES):
            found = ", ".join(map(str, sorted(anchors))) or "none"
            raise ValueError(f"must describe the grades {LOWEST_GRADE} to {HIGHEST_GRADE}, found {found}")
        return {grade: anchors[grade] for grade in GRADES}


class Rubric(BaseModel):
    """A judge's rubric.

    task: what the answers are for, told to the judge. show_reference: whether it sees the reference answer.
    min_kappa: the least agreement with people that a judge must have, see harness.judging.calibration.
    criteria: in a file either a list of mappings with a `name`, or a mapping from name to the rest.
    """

    model_config = _STRICT

    name: _Name
    task: _Text
    show_reference: bool = True
    min_kappa: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.4
    criteria: tuple[Criterion, ...]

    @field_validator("criteria", mode="before")
    @classmethod
    def _as_tuple(cls, criteria: object) -> object:
        if isinstance(criteria, Mapping):
            return tuple(
                {"name": name, **rest} if isinstance(rest, Mapping) and "name" not in rest else rest
                for name, rest in criteria.items()
            )
        return tuple(criteria) if isinstance(criteria, list) else criteria

    @field_validator("criteria")
    @classmethod
    def _once_each(cls, criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        if not criteria:
            raise ValueError("must have at least one")
        names = [criterion.name for criterion in criteria]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"must differ in name, found twice: {', '.join(doubled)}")
        return criteria

    @property
    def digest(self) -> str:
        """sha256, hex, of what the rubric says; the same for another order of keys or other comments.

        Grades are kept under it, so min_kappa is not in it: another bar does not change what a judge says.
        """
        text = json.dumps(self.model_dump(mode="json", exclude={"min_kappa"}), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def overall(self, grades: Mapping[str, float]) -> float:
        """The mean of the criteria's grades by weight, in 1..5. grades: criterion -> grade, for all."""
        total = sum(criterion.weight for criterion in self.criteria)
        mean = sum(criterion.weight * grades[criterion.name] for criterion in self.criteria) / total
        # The division can leave the range by a rounding error.
        return min(max(grades.values()), max(min(grades.values()), mean))


def load_rubric(path: Path) -> Rubric:
    """The rubric in a YAML file. Raises RubricError with every problem of the file."""
    try:
        content = _load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RubricError(f"{path}: no such file; a rubric is a YAML file in fixtures/rubrics/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RubricError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise RubricError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RubricError(f"{path}: nested too deeply") from None
    except ValueError as error:  # e.g. a date that does not exist
        raise RubricError(f"{path}: {error}") from None
    if not isinstance(content, Mapping):
        raise RubricError(f"{path}: must be a mapping with the keys {', '.join(Rubric.model_fields)}")
    try:
        rubric = Rubric.model_validate(content)
    except ValidationError as error:
        raise RubricError(f"{path.name}: {_problem(details)}" for details in error.errors()) from None
    if rubric.name != path.stem:
        raise RubricError(f"{path.name}: name must be {path.stem!r} like the file, got {rubric.name!r}")
    return rubric


class _Loader(yaml.SafeLoader):
    """YAML without what a rubric does not need: keys given twice (the last would win) and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _load_yaml(text: str) -> object:
    return yaml.load(text, Loader=_Loader)


def _problem(details: Any) -> str:
    """One line of a pydantic error: key, what is wrong, what was found."""
    place = ".".join(str(part) for part in details["loc"])
    found = details["input"]
    match details["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            known = Criterion.model_fields if len(details["loc"]) > 1 else Rubric.model_fields
            near = difflib.get_close_matches(str(details["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            return f"{place} is not a key of a rubric; {hint}"
        case "value_error":
            return f"{place} {details['ctx']['error']}"
        case _:
            wanted = re.sub(r"^(Input|String|Value) should", "should", details["msg"])
            return f"{place} {wanted}, got {found!r}"[:300]
