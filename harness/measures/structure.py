"""Structure: rules that an answer keeps or breaks, whatever it says. The suite gives the rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import GateError
from harness.measures.aligned import AnswerSome, check_examples, chosen, scores_of, texts_of, truncation_note
from harness.measures.generation import compile_pattern
from harness.measures.measure import Measure, parameter
from harness.records import Example, Outputs, Scores

__all__ = ["RuleMeasure", "Structure", "headings"]

# answer -> why it breaks the rule, or None
Rule = Callable[[str], str | None]

CUT_OFF = "the answer was cut off at the token limit"


@dataclass(frozen=True, eq=False, repr=False)
class RuleMeasure(Measure):
    """A Measure of 1 (the answer keeps the rule) and 0 that also says why an answer breaks it."""

    explain: Callable[[str], Mapping[str, str]] = field(default=lambda _: {}, kw_only=True)

    def failures(self, view: str) -> list[tuple[str, str]]:
        """(example id, reason) of each answer that breaks the rule, in the order of the examples."""
        return list(self.explain(view).items())


class Structure:
    """Rule checks on the answers of a view.

    examples: what was asked. answer: view -> generated texts. answer_some: the same for some of the examples, for
    gates that stop early.
    Each method returns a RuleMeasure with one value an example: 1 where the answer keeps the rule, else 0. An
    answer that was cut off at the token limit breaks every rule: its form is not known.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        answer: Callable[[str], Outputs],
        answer_some: AnswerSome | None = None,
    ) -> None:
        self.examples = check_examples(examples)
        self._answer = answer
        self._answer_some = answer_some
        self._outputs: dict[str, Outputs] = {}

    def outputs(self, view: str) -> Outputs:
        """What the view answered, generated on first use."""
        if view not in self._outputs:
            self._outputs[view] = self._answer(view)
        return self._outputs[view]

    def regex(self, pattern: str, *, full: bool = False) -> RuleMeasure:
        """The regular expression occurs in the answer; with `full`, it is the whole answer.

        Raises GateError for a pattern that is no regular expression.
        """
        name = "full_regex" if full else "regex"
        compiled = compile_pattern(f"structure.{name}", pattern)

        def rule(answer: str) -> str | None:
            found = compiled.fullmatch(answer.strip()) if full else compiled.search(answer)
            return None if found else f"{'is not' if full else 'has no match of'} {pattern!r}"

        return self._measure(f"{name}[{parameter(pattern)}]", rule)

    def json_schema(self, schema: Mapping[str, Any], *, name: str | None = None) -> RuleMeasure:
        """The whole answer is JSON and valid against the schema.

        schema: JSON Schema, draft 2020-12 unless `$schema` says otherwise; `$ref` only within it.
        name: what reports call the measure; by default the schema's title.
        A code fence around the JSON, NaN, Infinity and a key given twice break the rule. Raises GateError for
        a schema that is none.
        """
        validator = _validator(schema)
        title = name or str(schema.get("title") or json.dumps(schema, sort_keys=True))

        def rule(answer: str) -> str | None:
            try:
                value = _strict_json(answer)
            except (ValueError, RecursionError) as error:
                return f"is not JSON: {error}"
            return _first_violation(validator, value)

        return self._measure(f"json_schema[{parameter(title)}]", rule)

    def markdown_sections(self, sections: Sequence[str]) -> RuleMeasure:
        """The answer has these Markdown headings, of any level, in this order; others may stand between.

        Headings are lines that begin with 1 to 6 `#`, outside fenced code; letter case and closing `#` do not
        count. Raises GateError if no section is given.
        """
        if isinstance(sections, str) or not sections:
            raise GateError(f"structure.markdown_sections needs a list of headings, got {sections!r}")
        wanted = tuple(sections)

        def rule(answer: str) -> str | None:
            found = [heading.casefold() for heading in headings(answer)]
            position = 0
            for section in wanted:
                folded = " ".join(section.split()).casefold()
                if folded in found[position:]:
                    position = found.index(folded, position) + 1
                elif folded in found:
                    return f"the section {section!r} is not in its place"
                else:
                    return f"the section {section!r} is missing"
            return None

        return self._measure(f"markdown_sections[{parameter(', '.join(wanted))}]", rule)

    def max_words(self, n: int) -> RuleMeasure:
        """The answer has at most n words, i.e. runs without blanks. Raises GateError if n is not positive."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise GateError(f"structure.max_words needs a whole number of at least 1, got {n!r}")

        def rule(answer: str) -> str | None:
            words = len(answer.split())
            return None if words <= n else f"has {words} words, more than {n}"

        return self._measure(f"max_words[{n}]", rule)

    def ends_with_line(self, pattern: str) -> RuleMeasure:
        """The answer's last line that is not blank is all of the regular expression.

        Raises GateError for a pattern that is no regular expression.
        """
        compiled = compile_pattern("structure.ends_with_line", pattern)

        def rule(answer: str) -> str | None:
            lines = answer.strip().splitlines()
            last = lines[-1].strip() if lines else ""
            return None if compiled.fullmatch(last) else f"its last line {last!r} is not {pattern!r}"

        return self._measure(f"ends_with_line[{parameter(pattern)}]", rule)

    def __repr__(self) -> str:
        return f"<Structure, {len(self.examples)} examples>"

    def _measure(self, name: str, rule: Rule) -> RuleMeasure:
        full_name = f"structure.{name}"
        explained: dict[str, dict[str, str]] = {}

        def broken(view: str, outputs: Outputs, examples: Sequence[Example]) -> dict[str, str]:
            texts = texts_of(outputs, view)
            found = {
                e.id: CUT_OFF if e.id in outputs.truncated else rule(texts[e.id]) for e in examples if e.id in texts
            }
            return {example_id: why for example_id, why in found.items() if why is not None}

        def explain(view: str) -> Mapping[str, str]:
            if view not in explained:
                explained[view] = broken(view, self.outputs(view), self.examples)
            return explained[view]

        def scored(view: str, outputs: Outputs, examples: Sequence[Example], failures: Mapping[str, str]) -> Scores:
            values = {i: float(i not in failures) for i in texts_of(outputs, view)}
            return scores_of(full_name, view, examples, values, {}, note=truncation_note(outputs, examples))

        def some(view: str, ids: Sequence[str]) -> Scores:
            assert self._answer_some is not None
            outputs, examples = self._answer_some(view, ids), chosen(self.examples, ids)
            return scored(view, outputs, examples, broken(view, outputs, examples))

        return RuleMeasure(
            full_name,
            lambda view: scored(view, self.outputs(view), self.examples, explain(view)),
            some=None if self._answer_some is None else some,
            examples=self.examples,
            explain=explain,
        )


def headings(markdown: str) -> list[str]:
    """The texts of the ATX headings outside fenced code, in order, blanks folded.

    Source: CommonMark 0.31.2, sections 4.2 and 4.5.
    """
    found = []
    fence = ""
    for line in markdown.splitlines():
        mark = re.match(r" {0,3}(`{3,}|~{3,})(.*)", line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        elif heading := re.fullmatch(r" {0,3}#{1,6}(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*", line):
            found.append(" ".join((heading[1] or "").split()))
    return found


def _validator(schema: Mapping[str, Any]) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    if not isinstance(schema, Mapping):
        raise GateError(f"structure.json_schema needs a JSON Schema as a dict, got {type(schema).__name__}")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "the top"
        raise GateError(f"structure.json_schema: not a JSON Schema: at {place}: {error.message}") from None
    # An empty registry: a $ref to an address must not be fetched.
    return kind(dict(schema), registry=Registry())


def _first_violation(validator: Any, value: object) -> str | None:
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(validator.iter_errors(value))
    except Unresolvable as unresolvable:
        raise GateError(
            f"structure.json_schema: the schema refers to {unresolvable.ref!r}, which is not in it"
        ) from None
    except RecursionError:
        return "is nested too deeply to be checked"
    if error is None:
        return None
    place = "/".join(map(str, error.absolute_path))
    return f"{place + ': ' if place else ''}{error.message}"[:300]


def _strict_json(text: str) -> object:
    def constant(name: str) -> object:
        raise ValueError(f"{name} is not a JSON number")

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is given twice")
        return mapping

    value: object = json.loads(text, parse_constant=constant, object_pairs_hook=once)
    return value
