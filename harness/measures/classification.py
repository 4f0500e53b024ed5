"""Classification: which of the recipe's labels a view prefers, or writes.

By default every label is scored as the answer to the prompt and the likeliest one is the prediction, so a
right answer in other words is not lost. `generated` judges the text that the view writes instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.errors import GateError, ScoringError
from harness.measures.aligned import by_id, check_examples, scores_of, texts_of, truncation_note
from harness.measures.measure import Measure
from harness.records import Choices, Example, Outputs, Scores

if TYPE_CHECKING:
    import pandas

__all__ = ["OTHER", "TIE", "Classification", "ConfusionMatrix"]

OTHER = "<other>"
TIE = "<tie>"

# Straight quotes and backquotes, then the typographic ones.
_QUOTES = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb"


class ConfusionMatrix(NamedTuple):
    """labels: the recipe's, then OTHER and TIE where predicted. counts[i][j]: truth i was predicted as j."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class _Predictions(NamedTuple):
    predicted: dict[str, str]
    unscored: dict[str, str]
    note: str


class Classification:
    """The measures of a classification data set.

    examples: each has a label. labels: all of them, in the order of the recipe.
    score_choices: view -> log-likelihood of each label for each example; None for labels that cannot be the likeliest.
    score_every: view -> the same without None, for `probabilities`; score_choices where it is not given.
    answer: view -> generated texts, for `generated`; None where the suite cannot generate.
    mode: "probability" predicts the likeliest label, "generated" the label that the view wrote.
    Raises ScoringError for an example whose label is not among the labels.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        labels: Sequence[str],
        score_choices: Callable[[str], Choices],
        answer: Callable[[str], Outputs] | None = None,
        mode: Literal["probability", "generated"] = "probability",
        *,
        score_every: Callable[[str], Choices] | None = None,
    ) -> None:
        self.examples = check_examples(examples)
        self.labels = tuple(labels)
        self.mode = mode
        self._score_choices = score_choices
        self._score_every = score_every or score_choices
        self._answer = answer
        self._predictions: dict[str, _Predictions] = {}
        self._generated: Classification | None = None
        self._check_labels()

        self.accuracy = self._measure("accuracy", "mean")
        self.macro_f1 = self._measure("macro_f1", "macro_f1")
        self.micro_f1 = self._measure("micro_f1", "micro_f1")
        self.weighted_f1 = self._measure("weighted_f1", "weighted_f1")
        self.macro_precision = self._measure("macro_precision", "macro_precision")
        self.macro_recall = self._measure("macro_recall", "macro_recall")
        self.f1_by_label = self._measures_by_label("f1")
        self.precision_by_label = self._measures_by_label("precision")
        self.recall_by_label = self._measures_by_label("recall")

    @property
    def generated(self) -> Classification:
        """The same measures on what the view writes: text that is no label is a wrong prediction.

        Raises GateError where answers cannot be generated.
        """
        if self.mode == "generated":
            return self
        if self._answer is None:
            raise GateError("classification.generated needs generated answers, and none can be made here")
        if self._generated is None:
            self._generated = Classification(self.examples, self.labels, self._score_choices, self._answer, "generated")
        return self._generated

    def probabilities(self, view: str) -> pandas.DataFrame:
        """The view's probability of each label among all labels: (n, k) in 0..1, a row sums to 1.

        Index: ids of the scored examples; columns: labels. A softmax over the labels' log-likelihoods, so
        what the view would rather say than any label does not count.
        """
        import pandas

        if self.mode == "generated":
            raise GateError("generated answers have no probabilities: use classification.probabilities")
        rows = {i: _softmax(_complete(view, i, row)) for i, row in self._log_likelihoods(view, every=True)[0].items()}
        return pandas.DataFrame.from_dict(rows, orient="index", columns=list(self.labels))

    def confusion_matrix(self, view: str) -> ConfusionMatrix:
        """How often each label was predicted as which, over the scored examples."""
        from sklearn.metrics import confusion_matrix

        truth, predicted = self._pairs(view)
        labels = (*self.labels, *(extra for extra in (OTHER, TIE) if extra in predicted))
        if not truth:
            return ConfusionMatrix(labels, tuple((0,) * len(labels) for _ in labels))
        counts = confusion_matrix(truth, predicted, labels=list(labels))
        return ConfusionMatrix(labels, tuple(tuple(int(count) for count in row) for row in counts))

    def report(self, view: str) -> pandas.DataFrame:
        """Precision, recall, F1 (0..1) and support (number of examples) of each label.

        A label that was never predicted has precision 0, one without examples has recall 0.
        """
        import pandas
        from sklearn.metrics import precision_recall_fscore_support

        truth, predicted = self._pairs(view)
        if truth:
            columns = precision_recall_fscore_support(truth, predicted, labels=list(self.labels), zero_division=0.0)
        else:
            columns = ([0.0] * len(self.labels),) * 3 + ([0] * len(self.labels),)
        names = ("precision", "recall", "f1", "support")
        return pandas.DataFrame(dict(zip(names, columns, strict=True)), index=list(self.labels))

    def __repr__(self) -> str:
        return f"<Classification by {self.mode}, {len(self.examples)} examples, {len(self.labels)} labels>"

    def _check_labels(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ScoringError(f"labels occur twice: {', '.join(self.labels)}")
        for reserved in (OTHER, TIE):
            if reserved in self.labels:
                raise ScoringError(f"{reserved!r} cannot be a label: it stands for a wrong prediction")
        for example in self.examples:
            if example.label not in self.labels:
                where = example.source or example.id
                raise ScoringError(f"{where}: the label is {example.label!r}, not one of {', '.join(self.labels)}")

    def _measure(self, name: str, statistic: str) -> Measure:
        prefix = "classification" if self.mode == "probability" else "classification.generated"
        full_name = f"{prefix}.{name}"
        return Measure(full_name, lambda view: self._scores(full_name, statistic, view))

    def _measures_by_label(self, name: str) -> dict[str, Measure]:
        return {label: self._measure(f"{name}[{label}]", f"{name}:{label}") for label in self.labels}

    def _scores(self, name: str, statistic: str, view: str) -> Scores:
        predictions = self._predict(view)
        right = {
            e.id: float(predictions.predicted[e.id] == e.label) for e in self.examples if e.id in predictions.predicted
        }
        return scores_of(
            name,
            view,
            self.examples,
            right,
            predictions.unscored,
            statistic=statistic,
            predicted=predictions.predicted,
            labels=self.labels,
            note=predictions.note,
        )

    def _pairs(self, view: str) -> tuple[list[str], list[str]]:
        scores = self.accuracy.scores(view)
        return list(scores.truth or ()), list(scores.predicted or ())

    def _predict(self, view: str) -> _Predictions:
        if view not in self._predictions:
            by_mode = self._read if self.mode == "generated" else self._choose
            self._predictions[view] = by_mode(view)
        return self._predictions[view]

    def _choose(self, view: str) -> _Predictions:
        rows, unscored = self._log_likelihoods(view)
        predicted = {}
        for example_id, row in rows.items():
            best = max(value for value in row if value is not None)
            # An exact tie says nothing about which label is meant: taking the first would reward the
            # order of the labels, e.g. in a model whose weights are all equal.
            predicted[example_id] = self.labels[row.index(best)] if row.count(best) == 1 else TIE
        return _Predictions(predicted, unscored, "")

    def _read(self, view: str) -> _Predictions:
        if self._answer is None:
            raise GateError("classification.generated needs generated answers, and none can be made here")
        outputs = self._answer(view)
        texts = texts_of(outputs, view)
        predicted = {
            e.id: OTHER if e.id in outputs.truncated else read_label(texts[e.id], self.labels)
            for e in self.examples
            if e.id in texts
        }
        return _Predictions(predicted, {}, truncation_note(outputs, self.examples))

    def _log_likelihoods(
        self, view: str, *, every: bool = False
    ) -> tuple[dict[str, tuple[float | None, ...]], dict[str, str]]:
        """id -> log-likelihoods in the order of the labels; id -> why an example has none."""
        choices = (self._score_every if every else self._score_choices)(view)
        if sorted(choices.options) != sorted(self.labels):
            raise ScoringError(
                f"view {view!r}: the options {', '.join(choices.options)} were scored,"
                f" not the labels {', '.join(self.labels)}"
            )
        order = [choices.options.index(label) for label in self.labels]
        found = by_id("log-likelihoods", view, choices.view, choices.ids, choices.log_likelihoods)
        rows: dict[str, tuple[float | None, ...]] = {}
        unscored: dict[str, str] = {}
        for example in self.examples:
            row = found.get(example.id)
            if row is None:
                unscored[example.id] = f"the view {view} gave it no log-likelihoods"
            elif len(row) != len(self.labels):
                raise ScoringError(
                    f"view {view!r}, example {example.id!r}: {len(row)} log-likelihoods for {len(self.labels)} labels"
                )
            elif wrong := [k for k in order if (value := row[k]) is not None and not math.isfinite(value)]:
                k = wrong[0]
                unscored[example.id] = f"the log-likelihood of {choices.options[k]} is {row[k]}, not a finite number"
            elif all(value is None for value in row):
                unscored[example.id] = f"the view {view} gave it no log-likelihoods"
            else:
                rows[example.id] = tuple(row[k] for k in order)
        return rows, unscored


def read_label(text: str, labels: Sequence[str]) -> str:
    """The label that a generated text is, or OTHER.

    The first line that is not blank counts, without surrounding quotes, a final period and letter case; a
    label in its own letter case wins over one in another.
    """
    lines = text.strip().splitlines()
    said = _bare(lines[0]) if lines else ""
    for label in labels:
        if said == _bare(label):
            return label
    folded = [label for label in labels if _bare(label).casefold() == said.casefold()]
    return folded[0] if len(folded) == 1 else OTHER


def _bare(line: str) -> str:
    line = re.sub(r"\s+", " ", line).strip()
    while line:
        shorter = line.strip(_QUOTES).removesuffix(".").strip()
        if shorter == line:
            break
        line = shorter
    return line


def _complete(view: str, example_id: str, row: Sequence[float | None]) -> list[float]:
    values = [value for value in row if value is not None]
    if len(values) != len(row):
        raise ScoringError(
            f"view {view!r}, example {example_id!r}: not every label was scored, so none has a probability"
        )
    return values


def _softmax(log_likelihoods: Sequence[float]) -> list[float]:
    highest = max(log_likelihoods)
    weights = [math.exp(value - highest) for value in log_likelihoods]
    total = sum(weights)
    return [weight / total for weight in weights]
