from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest

import harness.statistics
from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics import difference, estimate, point, proportion


def scores(values, view="adapter", **fields):
    ids = tuple(f"e{i}" for i in range(len(values)))
    fields = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **fields)


def labelled(predicted, view="adapter", statistic="macro_f1", truth="abab" * 10, **fields):
    values = [float(a == b) for a, b in zip(truth, predicted, strict=True)]
    return scores(
        values,
        view,
        statistic=statistic,
        truth=tuple(truth),
        predicted=tuple(predicted),
        labels=("a", "b"),
        **fields,
    )


@pytest.mark.parametrize(
    ("given", "method"),
    [
        (scores([1, 1, 0, 1] * 5), "Wilson"),
        (scores([1, 1, 0, 1] * 5, groups=tuple("aabb" * 5)), "effective number"),
        (scores([0.2, 0.4, 0.9, 0.5] * 5), "Student's t"),
        (scores([1, 0, 0, 1] * 15, bounds=(0.0, 4.0)), "Student's t"),
        (scores([1, 5, 3, 4, 2] * 5, bounds=(1, 5)), "Student's t"),
        (scores([0.2, 0.4, 0.9, 0.5] * 5, groups=tuple("aabb" * 5)), "cluster-robust"),
        (labelled("abaa" * 10), "BCa bootstrap"),
        (labelled("abaa" * 10, statistic="accuracy"), "Wilson"),
        (labelled("abaa" * 10, statistic="f1:b"), "mapped to F1"),
    ],
)
def test_the_method_follows_the_scores(given, method):
    result = estimate(given)
    assert method in result.method
    assert result.low < result.value < result.high
    assert result.value == pytest.approx(point(given))
    assert result.n == len(given.ids)


@pytest.mark.parametrize(
    ("candidate", "baseline", "method"),
    [
        (scores([1, 1, 0, 1]), scores([1, 0, 0, 1], "base"), "Tango"),
        (
            scores([1, 1, 0, 1] * 9, groups=tuple("abcd" * 9)),
            scores([0, 0, 1, 1] * 9, "base", groups=tuple("abcd" * 9)),
            "cluster-robust",
        ),
        (scores([0.3, 0.5, 0.9] * 9), scores([0.1, 0.5, 0.7] * 9, "base"), "Student's t"),
        (labelled("abaa" * 10), labelled("aaab" * 10, "base"), "joint confusion cells"),
        (
            labelled("abaa" * 10, statistic="accuracy", groups=tuple("abcdefgh" * 5)),
            labelled("aaab" * 10, "base", statistic="accuracy", groups=tuple("abcdefgh" * 5)),
            "paired",
        ),
    ],
)
def test_the_method_of_a_difference_follows_the_scores(candidate, baseline, method):
    result = difference(candidate, baseline)
    assert method in result.method
    assert result.value == pytest.approx(point(candidate) - point(baseline))
    assert result.low <= result.value <= result.high


def test_confidence_and_seed_are_handed_on():
    given = labelled("abaa" * 33 + "bbbbb", truth="abab" * 33 + "ababa")
    assert estimate(given, seed=1) == estimate(given, seed=1) != estimate(given, seed=2)
    narrow, wide = estimate(given, confidence=0.8), estimate(given, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert (narrow.confidence, wide.confidence) == (0.8, 0.99)
    for wrong in (0, 1, math.nan):
        with pytest.raises(StatisticsError, match="confidence"):
            estimate(given, confidence=wrong)


def test_the_order_of_examples_does_not_matter():
    ours, theirs = scores([1, 0, 0.5, 0.2]), scores([0, 0.25, 0.5, 0.1], "base")
    backwards = replace(theirs, ids=theirs.ids[::-1], values=theirs.values[::-1])
    assert difference(ours, backwards) == difference(ours, theirs)
    ours, theirs = labelled("abaa" * 10), labelled("aaab" * 10, "base")
    backwards = replace(
        theirs,
        ids=theirs.ids[::-1],
        values=theirs.values[::-1],
        truth=theirs.truth[::-1],
        predicted=theirs.predicted[::-1],
    )
    assert difference(ours, backwards) == difference(ours, theirs)


def test_other_examples_are_an_error_and_never_an_intersection():
    ours = scores([1, 0, 1, 1])
    theirs = replace(scores([1, 0, 1], "base"), ids=("e0", "x1", "x2"))
    message = (
        "m.score: adapter and base were not scored on the same examples: "
        "3 examples only in adapter, 2 only in base, first e1"
    )
    with pytest.raises(StatisticsError, match=message):
        difference(ours, theirs)
    with pytest.raises(StatisticsError, match="0 examples only in adapter, 1 only in base, first e4"):
        difference(ours, scores([1, 0, 1, 1, 1], "base"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measure": "m.other"}, "different measures: m.score and m.other"),
        ({"statistic": "accuracy"}, "different statistics"),
        ({"labels": ("b", "a")}, "different labels"),
        ({"bounds": (0.0, 2.0)}, "different bounds"),
        ({"truth": tuple("bbab" * 10)}, "example e0 has the true label 'a' and 'b'"),
        ({"groups": tuple("abcd" * 10)}, "only one of them has a group"),
    ],
)
def test_scores_that_do_not_belong_together_are_refused(change, message):
    baseline = replace(labelled("aaab" * 10, "base"), **change)
    with pytest.raises(StatisticsError, match=message):
        difference(labelled("abaa" * 10), baseline)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (scores([]), "no example was scored"),
        (scores([1, math.nan]), "the score of e1 is nan"),
        (scores([1, 0], n_expected=3), "2 examples scored where 3 were expected"),
        (scores([1, 0], unscored={"e7": "refused"}), "first e7: refused"),
        (scores([1, 2]), "the score of e1 is 2, outside 0 to 1"),
        (scores([1, 1], bounds=(1.0, 1.0)), "leave no room"),
        (scores([1, 0], groups=("a",)), "1 groups for 2 examples"),
        (scores([1, 0], statistic="macro_f1"), "needs true and predicted labels"),
        (replace(labelled("abaa" * 10), predicted=("a",)), "1 predicted labels for 40"),
    ],
)
def test_scores_that_carry_no_estimate_are_refused(given, message):
    for function in (estimate, point):
        with pytest.raises(StatisticsError, match=message):
            function(given)
    with pytest.raises(StatisticsError, match=message):
        difference(given, given)


def test_what_is_exported_is_there():
    assert proportion is harness.statistics.proportion
    assert list(harness.statistics.__all__) == sorted(harness.statistics.__all__)
    for name in harness.statistics.__all__:
        assert callable(getattr(harness.statistics, name))
    with pytest.raises(AttributeError, match="no attribute 'median'"):
        _ = harness.statistics.median


def test_importing_the_rooms_loads_neither_numpy_nor_scipy():
    code = "import sys, harness.statistics, harness.gates; print(sorted({'numpy', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
