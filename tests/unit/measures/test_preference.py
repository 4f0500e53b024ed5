"""Win rates. The judges here are functions of the two texts; tests/unit/judging has the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from harness import statistics
from harness.errors import GateError, JudgeError
from harness.measures import Judged, JudgedAnswer, JudgedPair, PairwiseMeasure
from harness.records import Example, Message, Outputs, Scores


@dataclass(frozen=True)
class Said:
    id: str
    verdict: str | None
    problem: str | None = None


@dataclass
class Comparing:
    """Compares by a function of the two texts, and keeps what it was shown."""

    better: Callable[[str, str], str | None]
    name: str = "comparing"
    note: str = "a caveat"
    criteria: tuple[str, ...] = ()
    shown: list[JudgedPair] = field(default_factory=list)

    def grade(self, items: Sequence[JudgedAnswer], /) -> list[Said]:
        raise AssertionError("a comparison grades nothing")

    def prefer(self, pairs: Sequence[JudgedPair]) -> list[Said]:
        self.shown += pairs
        return [Said(pair.id, self.better(pair.first, pair.second)) for pair in pairs]


def longer(first: str, second: str) -> str:
    if len(first) == len(second):
        return "tie"
    return "first" if len(first) > len(second) else "second"


def examples(n: int, **fields: object) -> list[Example]:
    return [Example(f"e{k}", (Message("user", f"{k}?"),), f"{k}!", **fields) for k in range(n)]  # type: ignore[arg-type]


def judged(
    judge: Comparing, ours: Sequence[str], theirs: Sequence[str], given: list[Example] | None = None, *, seed: int = 0
) -> Judged:
    given = given or examples(len(ours))
    texts = {"adapter": ours, "base": theirs}

    def answer(view: str) -> Outputs:
        ids = tuple(e.id for e in given)[: len(texts[view])]
        return Outputs(view, ids, tuple(texts[view]))

    return Judged(given, answer, judge, prefer=judge.prefer, seed=seed)  # type: ignore[arg-type]


def won(measured: Judged, view: str = "adapter", other: str = "base") -> Scores:
    return measured.win_rate.against(other).scores(view)


def test_wins_ties_and_losses() -> None:
    judge = Comparing(longer)
    measured = judged(judge, ["longest", "same", "x", "xy"], ["short", "also", "longer", "xy"])
    scores = won(measured)
    assert scores.values == (1.0, 0.5, 0.0, 0.5)
    assert (scores.measure, scores.view, scores.compared_with) == ("judge.win_rate[base]", "adapter", "base")
    assert scores.bounds == (0.0, 1.0)
    assert scores.problem() is None
    bias = scores.details["position_bias"]
    # Two verdicts that are both a tie agree.
    assert (bias["pairs"], bias["flipped"], bias["first"], bias["second"], bias["identical"]) == (3, 0, 2, 2, 1)
    assert won(measured, "base", "adapter").values == (0.0, 0.5, 1.0, 0.5)


def test_identical_answers_are_a_tie_that_nobody_is_asked_about() -> None:
    judge = Comparing(lambda *_: "first")
    scores = won(judged(judge, ["same", "same too"], ["same", "same too"]))
    assert scores.values == (0.5, 0.5)
    assert judge.shown == []
    assert scores.note == "a caveat; 2 identical answers are a tie, not asked about"
    bias = scores.details["position_bias"]
    assert (bias["pairs"], bias["identical"], bias["flip_rate"]) == (0, 2, None)


def test_every_pair_is_asked_in_both_orders_with_sides_by_lot() -> None:
    judge = Comparing(longer)
    n = 60
    won(judged(judge, [f"ours {k}" for k in range(n)], [f"theirs {k}" for k in range(n)]))
    assert len(judge.shown) == 2 * n
    first_of_both = []
    for k in range(n):
        one, other = (pair for pair in judge.shown if pair.question == f"{k}?")
        assert (one.first, one.second) == (other.second, other.first)
        assert {one.first, one.second} == {f"ours {k}", f"theirs {k}"}
        assert one.reference == other.reference == f"{k}!"
        assert one.id != other.id
        first_of_both.append(one.first.startswith("ours"))
    # Of 60 fair draws, 15 to 45 are heads but for one time in 10,000.
    assert 15 <= sum(first_of_both) <= 45
    assert not any(word in repr(judge.shown) for word in ("adapter", "base"))


def test_sides_follow_from_seed_and_id_and_from_nothing_else() -> None:
    def drawn(seed: int, given: list[Example]) -> dict[str, str]:
        judge = Comparing(longer)
        texts = {e.id: e for e in given}
        won(judged(judge, [f"ours {i}" for i in texts], [f"theirs {i}" for i in texts], given, seed=seed))
        return {pair.id: pair.first for pair in judge.shown}

    given = examples(40)
    assert drawn(1, given) == drawn(1, given)
    assert drawn(1, given) == drawn(1, given[::-1])
    assert drawn(1, given[:10]).items() <= drawn(1, given).items()
    assert drawn(1, given) != drawn(2, given)


def test_a_judge_of_positions_wins_nothing_and_is_shown_to_be_one() -> None:
    for side, other in (("first", "second"), ("second", "first")):
        judge = Comparing(lambda *_, side=side: side)
        scores = won(judged(judge, [f"ours {k}" for k in range(20)], [f"theirs {k}" for k in range(20)]))
        assert set(scores.values) == {0.5}
        bias = scores.details["position_bias"]
        assert (bias["pairs"], bias["flipped"], bias["flip_rate"]) == (20, 20, 1.0)
        assert (bias[side], bias[other]) == (40, 0)


def test_the_flip_rate_has_an_interval_and_stands_in_the_note() -> None:
    """A tie in one order alone is a verdict that changed with the order, too."""

    def better(first: str, second: str) -> str:
        if "odd" in first + second:
            return "first"
        if "unsure" in first:
            return "tie"
        return longer(first, second)

    ours = ["odd one", "unsure and long", *[f"longest {k}" for k in range(18)]]
    theirs = ["x", "y", *["short"] * 18]
    scores = won(judged(Comparing(better), ours, theirs))
    assert scores.values == (0.5, 0.5, *[1.0] * 18)
    bias = scores.details["position_bias"]
    assert (bias["pairs"], bias["flipped"], bias["identical"]) == (20, 2, 0)
    # 40 verdicts: 18 and 18 of the pairs that agree, 2 firsts of the odd one, a tie and a second of the unsure one.
    assert (bias["first"], bias["second"]) == (18 + 2, 18 + 1)
    expected = statistics.proportion([1.0] * 2 + [0.0] * 18)
    assert (bias["flip_rate"], bias["low"], bias["high"]) == (0.1, expected.low, expected.high)
    assert scores.note == (
        "a caveat; position bias: the verdict on 2 of 20 pairs changed with the order, "
        f"flip rate 0.100 [{expected.low:.3f}, {expected.high:.3f}]"
    )


def test_groups_make_both_intervals_wider() -> None:
    def flips_every_fourth_group(first: str, second: str) -> str:
        return "first" if "odd" in first + second else longer(first, second)

    given = [
        Example(f"e{k}", (Message("user", f"{k}?"),), "", group=f"g{k // 4}", slices={"half": str(k % 2)})
        for k in range(40)
    ]
    ours = [f"{'odd' if k // 4 % 4 == 0 else 'longest'} {k}" for k in range(40)]
    theirs = [f"x{k}" for k in range(40)]
    grouped = won(judged(Comparing(flips_every_fourth_group), ours, theirs, given))
    alone = won(judged(Comparing(flips_every_fourth_group), ours, theirs, examples(40)))
    assert grouped.groups is not None
    assert grouped.slices["half"][:2] == ("0", "1")
    assert grouped.values == alone.values
    for scores in (grouped, alone):
        assert scores.details["position_bias"]["flipped"] == 12  # 3 of 10 groups
    wide, narrow = (one.details["position_bias"] for one in (grouped, alone))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]
    ours_wide, ours_narrow = statistics.estimate(grouped), statistics.estimate(alone)
    assert ours_wide.value == ours_narrow.value == pytest.approx(28 / 40 + 6 / 40)
    assert ours_wide.high - ours_wide.low > ours_narrow.high - ours_narrow.low


def test_a_pair_without_a_verdict_in_one_order_is_unscored() -> None:
    class Refusing(Comparing):
        def prefer(self, pairs: Sequence[JudgedPair]) -> list[Said]:
            odd = {
                "a": lambda p: Said(p.id, None, "refused" if p.first == "a" else None),
                "b": lambda p: Said(p.id, "first", "unsure"),
                "c": lambda p: Said(p.id, "left"),
                "d": lambda p: None,
            }
            said = [odd.get(p.first, odd.get(p.second, lambda p: Said(p.id, "first")))(p) for p in pairs]
            return [one for one in said if one is not None]

    scores = won(judged(Refusing(longer), ["a", "b", "c", "d", "e"], ["v", "w", "x", "y", "z"]))
    assert (scores.ids, scores.values) == (("e4",), (0.5,))
    reasons = dict(scores.unscored)
    # Which of its two orders is first was drawn; the refusal or the missing reason is named, whichever it is.
    assert reasons.pop("e0") in ("refused", "the judge gave no verdict and no reason")
    assert reasons == {
        "e1": "unsure",
        "e2": "the judge's verdict is 'left'",
        "e3": "the judge gave no verdict",
    }
    assert "4 of 5 examples have no score" in (scores.problem() or "")
    assert scores.details["position_bias"]["pairs"] == 1


def test_an_answer_that_is_missing_on_either_side_is_unscored() -> None:
    judge = Comparing(longer)
    given = examples(3)
    scores = won(judged(judge, ["a", "bb", "c"], ["x", "y"], given))
    assert scores.unscored == {"e2": "no answer from the view base"}
    scores = won(judged(judge, ["a"], ["x", "yy", "z"], given))
    assert scores.unscored == {f"e{k}": "no answer from the view adapter" for k in (1, 2)}


def test_answers_that_were_cut_off_are_noted_for_the_view_that_gave_them() -> None:
    def answer(view: str) -> Outputs:
        return Outputs(view, ("e0",), (view,), frozenset({"e0"}) if view == "base" else frozenset())

    measured = Judged(examples(1), answer, Comparing(longer), prefer=Comparing(longer).prefer)  # type: ignore[arg-type]
    assert won(measured).note.endswith("; base: 1 of 1 answers were cut off at the token limit")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([Said("e0 1", "first"), Said("e0 1", "first")], "the judge comparing compared 'e0 1' twice"),
        ([Said("e9 1", "first")], "the judge comparing compared 'e9 1' without being asked"),
    ],
)
def test_verdicts_that_are_not_one_to_one_are_refused(said: list[Said], message: str) -> None:
    judge = Comparing(longer)
    judge.prefer = lambda _: said  # type: ignore[method-assign]
    with pytest.raises(JudgeError, match=message):
        won(judged(judge, ["a"], ["bb"]))


def test_a_judge_that_cannot_compare_says_what_to_gate() -> None:
    measured = Judged(examples(1), lambda v: Outputs(v, ("e0",), ("x",)), Comparing(longer))  # type: ignore[arg-type]
    said = r"judge\.win_rate: the judge comparing does not compare answers in pairs\. Gate judge\.score, with "
    with pytest.raises(GateError, match=said):
        won(measured)


def test_a_win_rate_has_no_scores_of_one_view() -> None:
    measured = judged(Comparing(longer), ["a"], ["bb"])
    assert isinstance(measured.win_rate, PairwiseMeasure)
    with pytest.raises(GateError, match=r'Read it as judge\.win_rate\.against\("base"\)\.scores\("adapter"\)\.'):
        measured.win_rate.scores("adapter")
    assert measured.win_rate.against("base") is measured.win_rate.against("base")
    assert measured.win_rate.against("base").name == "judge.win_rate[base]"
