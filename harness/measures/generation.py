"""Generation: how close a view's answers are to the expected ones, by exact and overlap measures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from harness.errors import GateError
from harness.measures.aligned import AnswerSome, check_examples, chosen, scores_of, texts_of, truncation_note
from harness.measures.measure import Measure, parameter
from harness.records import Example, Outputs, Scores

__all__ = ["Generation", "compile_pattern"]

# expected, answer, whether the answer stopped at the token limit -> value in 0..1
_Score = Callable[[str, str, bool], float]


class Generation:
    """The measures of a data set whose examples have an expected text.

    examples: each with the expected answer in `expected`.
    answer: view -> generated texts. answer_some: the same for some of the examples, for gates that stop early.
    Every value lies in 0..1 and higher is better. An answer that was cut off at the token limit is compared
    as far as it goes, and `note` of the scores says how many there were.
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
        self.exact_match = self._measure("exact_match", lambda: _exact_match)
        self.finished = self._measure("finished", lambda: _finished)
        self.rouge1 = self._measure("rouge1", lambda: _rouge("rouge1"))
        self.rouge2 = self._measure("rouge2", lambda: _rouge("rouge2"))
        self.rougeL = self._measure("rougeL", lambda: _rouge("rougeL"))
        self.chrf = self._measure("chrf", lambda: _sacrebleu("chrf"))
        self.bleu = self._measure("bleu", lambda: _sacrebleu("bleu"))

    def outputs(self, view: str) -> Outputs:
        """What the view answered, generated on first use."""
        if view not in self._outputs:
            self._outputs[view] = self._answer(view)
        return self._outputs[view]

    def matches(self, pattern: str, *, full: bool = False) -> Measure:
        """1 where the regular expression occurs in the answer; with `full`, where it is the whole answer.

        Line ends and blanks around the answer do not count. A cut-off answer is never a full match.
        Raises GateError for a pattern that is no regular expression.
        """
        name = "full_match" if full else "matches"
        regex = compile_pattern(f"generation.{name}", pattern)

        def match(_: str, answer: str, truncated: bool) -> float:
            if full:
                return float(not truncated and regex.fullmatch(answer.strip()) is not None)
            return float(regex.search(answer) is not None)

        return self._measure(f"{name}[{parameter(pattern)}]", lambda: match)

    def field_match(self, pattern: str, group: int | str = 1) -> Measure:
        """1 where the answer has the field that the expected text has.

        pattern, group: the regular expression that finds the field in both texts, and the group that is its
        value, e.g. r"Priority: (\\w+)". Values are compared after folding letter case and blanks. An answer
        without the field is wrong. Raises GateError for a bad pattern or group, or where an expected text has
        no such field.
        """
        where = "generation.field_match"
        regex = compile_pattern(where, pattern)
        if group not in (regex.groupindex if isinstance(group, str) else range(regex.groups + 1)):
            raise GateError(
                f"{where}: the pattern {pattern!r} has no group {group!r};"
                f" it has {regex.groups}, named: {', '.join(regex.groupindex) or 'none'}"
            )

        def field(text: str) -> str | None:
            found = regex.search(text)
            value = found.group(group) if found else None
            return None if value is None else _folded(value)

        without = [e for e in self.examples if field(e.expected) is None]
        if without:
            first = without[0]
            raise GateError(
                f"{where}: the pattern {pattern!r} finds nothing in the expected text of {len(without)} of"
                f" {len(self.examples)} examples, first {first.source or first.id}: mend pattern or data"
            )

        def match(expected: str, answer: str, _: bool) -> float:
            return float(field(expected) == field(answer))

        suffix = "" if group == 1 else f", {group}"
        return self._measure(f"field_match[{parameter(pattern)}{suffix}]", lambda: match)

    def __repr__(self) -> str:
        return f"<Generation, {len(self.examples)} examples>"

    def _measure(self, name: str, load: Callable[[], _Score]) -> Measure:
        """load: called when scores are first asked for, so that its libraries load only then."""
        full_name = f"generation.{name}"

        def scored(view: str, outputs: Outputs, examples: Sequence[Example]) -> Scores:
            texts = texts_of(outputs, view)
            score = load()
            values = {
                e.id: score(e.expected, texts[e.id], e.id in outputs.truncated) for e in examples if e.id in texts
            }
            return scores_of(full_name, view, examples, values, {}, note=truncation_note(outputs, examples))

        def some(view: str, ids: Sequence[str]) -> Scores:
            assert self._answer_some is not None
            return scored(view, self._answer_some(view, ids), chosen(self.examples, ids))

        return Measure(
            full_name,
            lambda view: scored(view, self.outputs(view), self.examples),
            some=None if self._answer_some is None else some,
            examples=self.examples,
        )


def compile_pattern(where: str, pattern: str) -> re.Pattern[str]:
    """The compiled regular expression, as Python's re reads it. Raises GateError if it is none."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise GateError(f"{where}: {pattern!r} is not a regular expression: {error}") from None


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _exact_match(expected: str, answer: str, truncated: bool) -> float:
    return float(not truncated and " ".join(expected.split()) == " ".join(answer.split()))


def _finished(expected: str, answer: str, truncated: bool) -> float:
    return float(not truncated)


def _rouge(kind: Literal["rouge1", "rouge2", "rougeL"]) -> _Score:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind], use_stemmer=False)

    def score(expected: str, answer: str, _: bool) -> float:
        return float(scorer.score(expected, answer)[kind].fmeasure)

    return score


def _sacrebleu(kind: Literal["bleu", "chrf"]) -> _Score:
    from sacrebleu.metrics import BLEU, CHRF

    # Effective order: an answer of two words has no 4-grams, and would else be worth nothing.
    metric = BLEU(effective_order=True) if kind == "bleu" else CHRF()

    def score(expected: str, answer: str, _: bool) -> float:
        # Its percentages can exceed 100 by a rounding error.
        return min(1.0, float(metric.sentence_score(answer, [expected]).score) / 100.0)

    return score
