from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import GateError
from harness.measures import Generation, Measure
from harness.records import Example, Outputs


def generation(*pairs: tuple[str, str], truncated: tuple[int, ...] = ()) -> Generation:
    """pairs: (expected, answer). truncated: positions."""
    examples = [Example(f"e{k}", (), expected, source=f"test.jsonl:{k + 1}") for k, (expected, _) in enumerate(pairs)]
    ids = tuple(e.id for e in examples)
    texts = tuple(text for _, text in pairs)
    return Generation(examples, lambda v: Outputs(v, ids, texts, frozenset(f"e{k}" for k in truncated)))


def values(measure: Measure) -> list[float]:
    scores = measure.scores("adapter")
    assert scores.measure == measure.name
    assert scores.problem() is None
    assert scores.statistic == "mean"
    return list(scores.values)


def test_exact_match_folds_blanks_and_nothing_else() -> None:
    g = generation(("a b", "a b"), ("a b", "  a\n b "), ("a b", "A b"), ("a b", "a b."), ("a", ""))
    assert g.exact_match.name == "generation.exact_match"
    assert values(g.exact_match) == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_a_cut_off_answer_is_no_exact_match_and_not_finished() -> None:
    g = generation(("a", "a"), ("a", "a"), truncated=(1,))
    assert values(g.exact_match) == [1.0, 0.0]
    assert values(g.finished) == [1.0, 0.0]
    assert g.exact_match.scores("adapter").note == "1 of 2 answers were cut off at the token limit"
    assert generation(("a", "a")).exact_match.scores("adapter").note == ""


def test_rouge_by_hand() -> None:
    # Words of the answer found in the reference: the, cat, sat = 3 of 3; of the reference 3 of 6.
    # F = 2 * 1 * 0.5 / 1.5 = 2/3. Bigrams: (the cat), (cat sat), 2 of 2 and 2 of 5: F = 0.8 / 1.4 = 4/7.
    # The second answer has all its words, in another order: rouge1 2/3, longest common subsequence
    # "cat sat" or "the cat": 2 of 3 and 2 of 6, F = 2 * (2/3) * (1/3) / 1 = 4/9; bigrams none.
    reference = "the cat sat on the mat"
    g = generation((reference, "The cat sat!"), (reference, "cat the sat"), (reference, ""))
    assert values(g.rouge1) == pytest.approx([2 / 3, 2 / 3, 0.0])
    assert values(g.rouge2) == pytest.approx([4 / 7, 0.0, 0.0])
    assert values(g.rougeL) == pytest.approx([2 / 3, 4 / 9, 0.0])


def test_rouge_does_not_stem() -> None:
    assert values(generation(("running", "runs")).rouge1) == [0.0]


def test_bleu_by_hand() -> None:
    # An answer of two words has orders 1 and 2 only (effective order), all found: precisions 1 and 1; brevity
    # penalty exp(1 - 4/2) = exp(-1).
    g = generation(("a b c d", "a b"), ("HIGH", "HIGH"), ("a b c d e", "a b c d e"), ("a b", "x y"), ("a", ""))
    found = values(g.bleu)
    assert found[0] == pytest.approx(0.36787944117)
    assert found[1] == pytest.approx(1.0)
    assert found[2] == pytest.approx(1.0)
    assert found[3:] == [0.0, 0.0]
    assert max(found) <= 1.0


def test_chrf_by_hand() -> None:
    # "ab" against "ac": characters a, b and a, c: one of two each way; bigrams: none of one.
    # chrF takes the mean over the orders that both have, 1 and 2: precision and recall 0.25, so F2 = 0.25.
    found = values(generation(("ac", "ab"), ("same text", "same text"), ("abc", "xyz")).chrf)
    assert found == pytest.approx([0.25, 1.0, 0.0])
    assert max(found) <= 1.0


def test_matches_searches_and_matches_fully() -> None:
    g = generation(("", "Priority: HIGH."), ("", "HIGH\n"), ("", "low"), ("", "HIGH"), truncated=(3,))
    assert values(g.matches("HIGH")) == [1.0, 1.0, 0.0, 1.0]
    assert values(g.matches("HIGH", full=True)) == [0.0, 1.0, 0.0, 0.0]
    assert g.matches("HIGH").name == "generation.matches[HIGH]"
    assert g.matches("HIGH", full=True).name == "generation.full_match[HIGH]"


def test_field_match_compares_what_the_pattern_finds() -> None:
    g = generation(
        ("Priority: HIGH. Reason: x", "Priority: high. Reason: y"),
        ("Priority: HIGH. Reason: x", "Priority: LOW."),
        ("Priority: LOW.", "I do not know"),
        ("Priority: LOW.", ""),
    )
    field = g.field_match(r"Priority: (\w+)")
    assert values(field) == [1.0, 0.0, 0.0, 0.0], "letter case is folded; no field in the answer is wrong"
    assert field.name == r"generation.field_match[Priority: (\w+)]"
    named = g.field_match(r"Priority: (?P<level>\w+)", "level")
    assert values(named) == [1.0, 0.0, 0.0, 0.0]
    assert named.name == r"generation.field_match[Priority: (?P<level>\w+), level]"


def test_a_pattern_that_misses_an_expected_text_is_an_error() -> None:
    g = generation(("Priority: HIGH", "x"), ("Urgent", "x"))
    with pytest.raises(GateError) as caught:
        g.field_match(r"Priority: (\w+)")
    assert str(caught.value) == (
        r"generation.field_match: the pattern 'Priority: (\\w+)' finds nothing in the expected text of 1 of"
        " 2 examples, first test.jsonl:2: mend pattern or data"
    )


@pytest.mark.parametrize("group", [2, "level", -1])
def test_a_group_that_the_pattern_lacks_is_an_error(group: int | str) -> None:
    with pytest.raises(GateError, match=r"has no group .*; it has 1, named: none"):
        generation(("P: 1", "P: 1")).field_match(r"P: (\d)", group)


@pytest.mark.parametrize("make", [lambda g: g.matches("("), lambda g: g.field_match("(")])
def test_a_bad_pattern_is_one_line(make: Callable[[Generation], Measure]) -> None:
    with pytest.raises(GateError, match=r"^generation\.\w+: '\(' is not a regular expression: .*$") as caught:
        make(generation(("a", "a")))
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_missing_is_unscored_not_zero() -> None:
    examples = [Example("a", (), "x"), Example("b", (), "y")]
    g = Generation(examples, lambda view: Outputs(view, ("b",), ("y",)))
    scores = g.rougeL.scores("base")
    assert scores.ids == ("b",)
    assert scores.unscored == {"a": "no answer from the view base"}


def test_answers_are_generated_once_a_view() -> None:
    asked = []

    def answer(view: str) -> Outputs:
        asked.append(view)
        return Outputs(view, ("a",), ("x",))

    g = Generation([Example("a", (), "x")], answer)
    for measure in (g.exact_match, g.chrf, g.matches("x")):
        measure.scores("base")
    assert g.outputs("base").texts == ("x",)
    assert asked == ["base"]
