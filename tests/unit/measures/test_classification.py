from __future__ import annotations

import math

import pytest
import sklearn.metrics

from harness.errors import GateError, ScoringError
from harness.measures import Classification, Measure
from harness.measures.classification import OTHER, TIE, read_label
from harness.records import Choices, Example, Outputs
from harness.statistics.confusion import statistic_of

LABELS = ("cat", "dog", "emu")


def example(k: int, label: str | None, **more: object) -> Example:
    return Example(f"e{k}", (), label or "", label, **more)  # type: ignore[arg-type]


TRUTH = ("cat", "cat", "dog", "emu", "emu")
EXAMPLES = tuple(example(k, label) for k, label in enumerate(TRUTH))
# Predicted: cat, dog, dog, emu, cat.
ROWS = ((-1.0, -2.0, -3.0), (-2.0, -1.0, -9.0), (-5.0, -1.0, -4.0), (-7.0, -6.0, -5.0), (-1.0, -2.0, -2.0))
PREDICTED = ("cat", "dog", "dog", "emu", "cat")


def choices(
    rows: tuple[tuple[float | None, ...], ...] = ROWS,
    ids: tuple[str, ...] | None = None,
    options: tuple[str, ...] = LABELS,
    view: str | None = None,
):  # type: ignore[no-untyped-def]
    ids = tuple(e.id for e in EXAMPLES[: len(rows)]) if ids is None else ids
    return lambda asked: Choices(view or asked, ids, options, rows)


def answers(*texts: str, truncated: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    ids = tuple(e.id for e in EXAMPLES[: len(texts)])
    return lambda view: Outputs(view, ids, texts, frozenset(truncated))


def test_predicts_the_likeliest_label() -> None:
    classification = Classification(EXAMPLES, LABELS, choices())
    scores = classification.accuracy.scores("adapter")
    assert scores.measure == "classification.accuracy"
    assert scores.view == "adapter"
    assert scores.ids == ("e0", "e1", "e2", "e3", "e4")
    assert scores.predicted == PREDICTED
    assert scores.truth == TRUTH
    assert scores.labels == LABELS
    assert scores.values == (1.0, 0.0, 1.0, 1.0, 0.0)
    assert scores.statistic == "mean"
    assert scores.n_expected == 5
    assert scores.bounds == (0.0, 1.0)
    assert scores.problem() is None


def test_every_measure_names_its_statistic() -> None:
    c = Classification(EXAMPLES, LABELS, choices())
    named = [c.accuracy, c.macro_f1, c.micro_f1, c.weighted_f1, c.macro_precision, c.macro_recall]
    assert [(m.name, m.scores("base").statistic) for m in named] == [
        ("classification.accuracy", "mean"),
        ("classification.macro_f1", "macro_f1"),
        ("classification.micro_f1", "micro_f1"),
        ("classification.weighted_f1", "weighted_f1"),
        ("classification.macro_precision", "macro_precision"),
        ("classification.macro_recall", "macro_recall"),
    ]
    for kind, by_label in (
        ("f1", c.f1_by_label),
        ("precision", c.precision_by_label),
        ("recall", c.recall_by_label),
    ):
        assert list(by_label) == list(LABELS)
        assert by_label["dog"].name == f"classification.{kind}[dog]"
        assert by_label["dog"].scores("base").statistic == f"{kind}:dog"
        assert by_label["dog"].scores("base").predicted == PREDICTED


def test_the_named_statistics_are_those_that_statistics_knows() -> None:
    c = Classification(EXAMPLES, LABELS, choices(), answers("cat", "fish", "dog", "emu", "cat")).generated
    predicted = ["cat", OTHER, "dog", "emu", "cat"]

    def value(measure: Measure) -> float:
        scores = measure.scores("base")
        assert scores.truth is not None
        assert scores.predicted is not None
        return statistic_of(scores.statistic, scores.truth, scores.predicted, scores.labels)

    scorers = {
        "f1": sklearn.metrics.f1_score,
        "precision": sklearn.metrics.precision_score,
        "recall": sklearn.metrics.recall_score,
    }
    for measure, kind, average in (
        (c.macro_f1, "f1", "macro"),
        (c.micro_f1, "f1", "micro"),
        (c.weighted_f1, "f1", "weighted"),
        (c.macro_precision, "precision", "macro"),
        (c.macro_recall, "recall", "macro"),
    ):
        expected = scorers[kind](TRUTH, predicted, labels=LABELS, average=average, zero_division=0)
        assert value(measure) == pytest.approx(expected)
    for kind, by_label in (
        ("f1", c.f1_by_label),
        ("precision", c.precision_by_label),
        ("recall", c.recall_by_label),
    ):
        each = scorers[kind](TRUTH, predicted, labels=LABELS, average=None, zero_division=0)
        assert [value(m) for m in by_label.values()] == pytest.approx(list(each))


def test_choices_are_scored_once_a_view_for_all_measures() -> None:
    asked = []

    def score(view: str) -> Choices:
        asked.append(view)
        return choices()(view)

    c = Classification(EXAMPLES, LABELS, score)
    assert asked == []
    for measure in (c.accuracy, c.macro_f1, *c.f1_by_label.values()):
        measure.scores("base")
        measure.scores("adapter")
    c.confusion_matrix("base")
    assert asked == ["base", "adapter"]


def test_options_may_come_in_another_order() -> None:
    rows = tuple((row[2], row[0], row[1]) for row in ROWS)
    c = Classification(EXAMPLES, LABELS, choices(rows, options=("emu", "cat", "dog")))
    assert c.accuracy.scores("base").predicted == PREDICTED
    assert list(c.probabilities("base").columns) == list(LABELS)


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_a_log_likelihood_that_is_not_finite_is_unscored(bad: float) -> None:
    c = Classification(EXAMPLES, LABELS, choices((*ROWS[:4], (-1.0, bad, -3.0))))
    scores = c.macro_f1.scores("base")
    assert scores.ids == ("e0", "e1", "e2", "e3")
    assert scores.unscored == {"e4": f"the log-likelihood of dog is {bad}, not a finite number"}
    assert scores.n_expected == 5
    assert "1 of 5 examples have no score" in (scores.problem() or "")
    assert list(c.probabilities("base").index) == ["e0", "e1", "e2", "e3"]


def test_an_example_without_choices_is_unscored() -> None:
    scores = Classification(EXAMPLES, LABELS, choices(ROWS[:3])).accuracy.scores("base")
    assert set(scores.unscored) == {"e3", "e4"}
    assert scores.unscored["e3"] == "the view base gave it no log-likelihoods"


def test_an_exact_tie_of_the_best_is_wrong_whatever_the_truth() -> None:
    # Three labels of equal likelihood, then a tie between cat (true) and dog; a tie of the worst is none.
    rows = ((-1.0, -1.0, -1.0), (-1.0, -1.0, -2.0), (-2.0, -1.0, -2.0))
    scores = Classification(EXAMPLES[:3], LABELS, choices(rows)).accuracy.scores("base")
    assert scores.predicted == (TIE, TIE, "dog")
    assert scores.values == (0.0, 0.0, 1.0)
    assert scores.problem() is None


def test_probabilities_are_a_softmax_and_do_not_overflow() -> None:
    # exp(-1000) underflows to 0 without the shift. ln 3 apart means 3 to 1: 0.75 and 0.25 of the rest.
    rows = ((-1000.0, -1000.0 - math.log(3), -3000.0), (-2.0, -2.0, -2.0))
    table = Classification(EXAMPLES[:2], LABELS, choices(rows)).probabilities("base")
    assert list(table.index) == ["e0", "e1"]
    assert table.loc["e0"].tolist() == pytest.approx([0.75, 0.25, 0.0])
    assert table.loc["e1"].tolist() == pytest.approx([1 / 3] * 3)


# Labels that cannot win have no value.
READ = ((-1.0, None, None), (None, -1.0, None), (-5.0, -1.0, None), (-7.0, -6.0, -5.0), (-1.0, -2.0, -2.0))


def test_labels_that_were_ruled_out_are_not_predicted() -> None:
    scores = Classification(EXAMPLES, LABELS, choices(READ)).accuracy.scores("base")
    assert scores.predicted == PREDICTED
    assert scores.problem() is None


def test_probabilities_ask_for_every_label() -> None:
    c = Classification(EXAMPLES, LABELS, choices(READ), score_every=choices())
    assert c.probabilities("base").equals(Classification(EXAMPLES, LABELS, choices()).probabilities("base"))
    assert c.accuracy.scores("base").predicted == PREDICTED


def test_probabilities_are_refused_where_labels_were_ruled_out() -> None:
    with pytest.raises(ScoringError, match="example 'e0': not every label was scored"):
        Classification(EXAMPLES, LABELS, choices(READ)).probabilities("base")


def test_an_example_whose_labels_were_all_ruled_out_is_unscored() -> None:
    scores = Classification(EXAMPLES, LABELS, choices((*ROWS[:4], (None, None, None)))).accuracy.scores("base")
    assert scores.unscored == {"e4": "the view base gave it no log-likelihoods"}


def test_a_value_that_is_not_finite_counts_beside_labels_that_were_ruled_out() -> None:
    scores = Classification(EXAMPLES, LABELS, choices(((math.nan, None, -1.0), *ROWS[1:]))).accuracy.scores("base")
    assert scores.unscored == {"e0": "the log-likelihood of cat is nan, not a finite number"}


def test_confusion_matrix_has_truth_in_rows() -> None:
    matrix = Classification(EXAMPLES, LABELS, choices()).confusion_matrix("base")
    assert matrix.labels == LABELS
    assert matrix.counts == ((1, 1, 0), (0, 1, 0), (1, 0, 1))


def test_confusion_matrix_keeps_predictions_that_are_no_label() -> None:
    c = Classification(EXAMPLES, LABELS, choices(), answers("cat", "fish", "dog", "emu", "a bird"))
    matrix = c.generated.confusion_matrix("base")
    assert matrix.labels == (*LABELS, OTHER)
    assert matrix.counts == ((1, 0, 0, 1), (0, 1, 0, 0), (0, 0, 1, 1), (0, 0, 0, 0))


def test_report_agrees_with_scikit_learn() -> None:
    report = Classification(EXAMPLES, LABELS, choices()).report("base")
    assert list(report.columns) == ["precision", "recall", "f1", "support"]
    expected = sklearn.metrics.classification_report(TRUTH, PREDICTED, labels=LABELS, output_dict=True, zero_division=0)
    for label in LABELS:
        row = expected[label]
        assert report.loc[label].tolist() == [row[k] for k in ("precision", "recall", "f1-score", "support")]
    # By hand: cat was predicted twice, once rightly, and is the truth twice.
    assert report.loc["cat"].tolist() == [0.5, 0.5, 0.5, 2]


def test_report_and_matrix_of_nothing_scored_are_zeros_not_errors() -> None:
    c = Classification(EXAMPLES, LABELS, choices((), ids=()))
    assert c.report("base").to_numpy().sum() == 0
    assert c.confusion_matrix("base").counts == ((0, 0, 0),) * 3


def test_generated_mode_reads_the_written_label() -> None:
    c = Classification(EXAMPLES, LABELS, choices(), answers('"Cat".', "dog\nbecause", "DOG", "an emu", ""))
    scores = c.generated.accuracy.scores("adapter")
    assert scores.measure == "classification.generated.accuracy"
    assert scores.predicted == ("cat", "dog", "dog", OTHER, OTHER)
    assert scores.values == (1.0, 0.0, 1.0, 0.0, 0.0)
    assert scores.problem() is None, "text that is no label is wrong, not unscored"
    assert c.generated.f1_by_label["cat"].name == "classification.generated.f1[cat]"
    assert c.generated is c.generated
    assert c.generated.generated is c.generated
    assert c.accuracy.scores("adapter").predicted == PREDICTED


def test_a_truncated_answer_is_wrong_and_noted() -> None:
    c = Classification(EXAMPLES, LABELS, choices(), answers(*TRUTH, truncated=("e0", "e3")))
    scores = c.generated.accuracy.scores("base")
    assert scores.predicted == (OTHER, "cat", "dog", OTHER, "emu")
    assert scores.note == "2 of 5 answers were cut off at the token limit"


def test_an_answer_that_is_missing_is_unscored() -> None:
    c = Classification(EXAMPLES, LABELS, choices(), answers("cat", "cat"))
    scores = c.generated.accuracy.scores("base")
    assert scores.ids == ("e0", "e1")
    assert scores.unscored["e2"] == "no answer from the view base"


def test_generated_needs_answers_and_has_no_probabilities() -> None:
    with pytest.raises(GateError, match="needs generated answers"):
        _ = Classification(EXAMPLES, LABELS, choices()).generated
    with pytest.raises(GateError, match="have no probabilities"):
        Classification(EXAMPLES, LABELS, choices(), answers(*TRUTH)).generated.probabilities("base")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("payroll", "payroll"),
        ("  Payroll.\n", "payroll"),
        ('"payroll."', "payroll"),
        ("\u201cpayroll\u201d.", "payroll"),
        ("`bank fee`", "bank fee"),
        ("bank   fee", "bank fee"),
        ("\n\npayroll\nThat is a salary.", "payroll"),
        ("payroll, I think", OTHER),
        ("The answer is payroll", OTHER),
        ("", OTHER),
        (' "." ', OTHER),
    ],
)
def test_read_label(text: str, label: str) -> None:
    assert read_label(text, ("payroll", "bank fee")) == label


def test_labels_that_differ_only_in_case_are_told_apart_by_case() -> None:
    assert read_label("us", ("US", "us")) == "us"
    assert read_label("US", ("US", "us")) == "US"
    assert read_label("Us", ("US", "us")) == OTHER


def test_groups_and_slices_follow_the_scored_examples() -> None:
    examples = (
        example(0, "cat", group="g1", slices={"seen": "yes"}),
        example(1, "dog", group="g1", slices={"seen": "no", "long": "yes"}),
        example(2, "dog"),
    )
    rows = (ROWS[0], (math.nan, 0.0, 0.0), ROWS[2])
    scores = Classification(examples, LABELS, choices(rows)).accuracy.scores("base")
    assert scores.ids == ("e0", "e2")
    assert scores.groups == ("g1", "e2")
    assert scores.slices == {"seen": ("yes", ""), "long": ("", "")}
    assert Classification(EXAMPLES, LABELS, choices()).accuracy.scores("base").groups is None


@pytest.mark.parametrize(
    ("examples", "labels", "said"),
    [
        ((example(0, "cow"),), LABELS, "e0: the label is 'cow', not one of cat, dog, emu"),
        ((example(0, None, source="test.jsonl:7"),), LABELS, "test.jsonl:7: the label is None"),
        ((example(0, "cat"), example(0, "dog")), LABELS, "1 example ids occur twice, first 'e0'"),
        ((), ("cat", "cat"), "labels occur twice"),
        ((), ("cat", OTHER), "'<other>' cannot be a label"),
    ],
)
def test_examples_and_labels_that_cannot_be_measured(
    examples: tuple[Example, ...], labels: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ScoringError, match="^" + said.replace("?", r"\?")):
        Classification(examples, labels, choices())


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (choices(options=("cat", "dog", "cow")), "the options cat, dog, cow were scored, not the labels"),
        (choices(view="adapter"), "of the view 'base' were asked for and those of 'adapter' came"),
        (choices(ROWS, ids=("e0", "e1", "e2", "e3", "e3")), "'e3' was answered twice"),
        (choices(ROWS, ids=("e0",)), "5 values for 1 ids"),
        (choices(((-1.0, -2.0),), ids=("e0",)), "example 'e0': 2 log-likelihoods for 3 labels"),
    ],
)
def test_choices_of_something_else_are_refused(score, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ScoringError, match=said):
        Classification(EXAMPLES, LABELS, score).accuracy.scores("base")
