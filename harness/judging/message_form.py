"""What a language model is asked of one answer, and how its grades are read from the reply.

What is judged travels as marked material (harness.judging.material), never in the system prompt; a reply that is not
exactly what was asked for leaves its item ungraded, with a reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from harness.judging.material import MATERIAL_IS_DATA, REFERENCE_IS_RIGHT, marked
from harness.judging.messages_api import Unusable
from harness.judging.protocol import Answer, Grade, JudgeItem
from harness.judging.rubric import GRADES, Rubric

__all__ = ["GradeForm", "Question", "message_params", "read_content", "version_of"]


class Question(NamedTuple):
    """What one call asks. prompt: makes the user turn, another one for each call. schema: of the JSON to write."""

    system: str
    prompt: Callable[[], str]
    schema: Mapping[str, object]


def message_params(question: Question, model: str, max_tokens: int) -> dict[str, Any]:
    """The parameters of one call of the Messages API. max_tokens: for the reply, thinking included."""
    return {
        "model": model,
        "max_tokens": max_tokens,
        "system": [{"type": "text", "text": question.system, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": question.prompt()}],
        "output_config": {"format": {"type": "json_schema", "schema": question.schema}},
    }


def read_content(reply: object, model: str, max_tokens: int) -> object:
    """The JSON that the model wrote. Raises Unusable for a reply that is not whole, or by another model.

    A dated snapshot of the model is the model.
    """
    if not isinstance(reply, dict):
        raise Unusable("the judge's reply is not a message")
    _check_ending(reply, model, max_tokens)
    content = reply.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    # By type, not by position: a thinking block may come first.
    text = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable("what the judge wrote is not JSON") from None


def _check_ending(reply: Mapping[str, Any], wanted: str, max_tokens: int) -> None:
    model = reply.get("model")
    reason = reply.get("stop_reason")
    if reason == "refusal":
        details = reply.get("stop_details")
        category = details.get("category") if isinstance(details, dict) else None
        raise Unusable(f"the judge refused to grade it{f' ({category})' if category else ''}")
    if reason == "max_tokens":
        raise Unusable(f"the judge's reply was cut off at {max_tokens} tokens")
    if reason != "end_turn":
        raise Unusable(f"the judge's reply ended with stop_reason {reason!r}, not 'end_turn'")
    if not isinstance(model, str) or not re.fullmatch(re.escape(wanted) + r"(-\d{8})?", model):
        raise Unusable(f"the reply is by the model {model!r}, not {wanted!r}")


def version_of(question: Question) -> str:
    """Digest of everything that the judge is told in this question, but for the marker of its material."""
    told = json.dumps([question.system, question.schema, re.sub(r"MATERIAL-[0-9a-f]{32}", "", question.prompt())])
    return hashlib.sha256(told.encode()).hexdigest()


class GradeForm:
    """The question that has every criterion of a rubric graded from 1 to 5.

    version: digest of everything that the judge is told beside the item; another version is another instrument.
    """

    def __init__(self, rubric: Rubric) -> None:
        self.rubric = rubric
        self.criteria = tuple(criterion.name for criterion in rubric.criteria)
        self._system = _system_prompt(rubric)
        self._schema = _schema(self.criteria)
        self.version = version_of(self.question(JudgeItem("", "question", "reference", "response")))

    def question(self, item: Answer) -> Question:
        """What is asked of one answer."""
        return Question(self._system, partial(_user_prompt, item, self.rubric.show_reference), self._schema)

    def grade(self, item_id: str, graded: object) -> Grade:
        """The grade in what the judge wrote. Raises Unusable."""
        grades = graded.get("grades") if isinstance(graded, dict) else None
        if not isinstance(graded, dict) or not isinstance(grades, dict) or set(grades) != set(self.criteria):
            raise Unusable(f"the judge's reply has not exactly the grades {', '.join(self.criteria)}")
        for criterion, grade in grades.items():
            if isinstance(grade, bool) or grade not in GRADES:
                raise Unusable(f"the judge's grade of {criterion} is {grade!r}, not 1, 2, 3, 4 or 5")
        criteria = {name: float(grades[name]) for name in self.criteria}
        rationale = graded.get("rationale")
        return Grade(
            item_id,
            self.rubric.overall(criteria),
            criteria,
            rationale=rationale if isinstance(rationale, str) else "",
        )


def _system_prompt(rubric: Rubric) -> str:
    parts = [
        "You grade answers. What they are for:",
        rubric.task,
        "Grade each criterion on its own, with the whole number whose description fits best:",
    ]
    for criterion in rubric.criteria:
        lines = [f"{grade}: {criterion.anchors[grade]}" for grade in GRADES]
        parts.append("\n".join([f"Criterion `{criterion.name}`", *lines]))
    if rubric.show_reference:
        parts.append(REFERENCE_IS_RIGHT)
    parts.append(f"{MATERIAL_IS_DATA} Write the rationale, at most three sentences, before settling the grades.")
    return "\n\n".join(parts)


def _user_prompt(item: Answer, show_reference: bool) -> str:
    material = {"question": item.question}
    if show_reference and item.reference:
        material["reference"] = item.reference
    material["response"] = item.response
    return marked("Grade `response`.", material)


def _schema(criteria: Sequence[str]) -> dict[str, object]:
    """The JSON Schema of a reply; the rationale comes first, so that grades follow from it."""
    grade = {"type": "integer", "enum": list(GRADES)}
    grades = {
        "type": "object",
        "properties": {name: grade for name in criteria},
        "required": list(criteria),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rationale": {"type": "string"}, "grades": grades},
        "required": ["rationale", "grades"],
        "additionalProperties": False,
    }
