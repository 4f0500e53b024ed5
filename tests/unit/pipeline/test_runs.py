"""The outcome of a run, and one run of what several processes did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.pipeline.merging import merged, run_outcome
from harness.records import GateResult, Outcome, RecipeResult, Run, Verdict

PASS, FAIL, INCONCLUSIVE, INCOMPLETE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INCOMPLETE


def recipe(*outcomes: Outcome, name: str = "animals", problem: str | None = None) -> RecipeResult:
    gates = tuple(
        GateResult(f"{name}/test/{k}", "test", Verdict("m", "adapter", "at least 0.5", outcome, "because", 10))
        for k, outcome in enumerate(outcomes)
    )
    return RecipeResult(name, "tiny", "f" * 64, None, None, None, (), gates, problem=problem)


def run(
    *recipes: RecipeResult, started: str = "2026-11-02T10:00:00+00:00", seconds: float = 1.0, **rest: object
) -> Run:
    problems: tuple[str, ...] = rest.get("problems", ())  # type: ignore[assignment]
    return Run(f"run-{started}", run_outcome(recipes, problems), started, seconds, {"host": started}, recipes, problems)


@pytest.mark.parametrize(
    ("recipes", "problems", "expected"),
    [
        ([recipe(PASS)], [], PASS),
        ([recipe(PASS, PASS), recipe(PASS, name="b")], [], PASS),
        ([recipe(PASS, FAIL)], [], FAIL),
        ([recipe(PASS, INCONCLUSIVE)], [], INCONCLUSIVE),
        ([recipe(INCONCLUSIVE, INCOMPLETE)], [], INCOMPLETE),
        ([], [], INCOMPLETE),
        ([recipe()], [], INCOMPLETE),
        ([recipe(PASS), recipe(name="b")], [], INCOMPLETE),
        ([recipe(PASS, problem="a test was skipped")], [], INCOMPLETE),
        ([recipe(PASS)], ["a test did not run"], INCOMPLETE),
        ([recipe(FAIL, problem="a test was skipped")], ["a test did not run"], FAIL),
    ],
)
def test_a_run_passes_only_if_everything_did(
    recipes: list[RecipeResult], problems: list[str], expected: Outcome
) -> None:
    assert run_outcome(recipes, problems) is expected


def test_merged_runs_are_one_with_all_recipes() -> None:
    first = run(recipe(PASS, name="b"), started="2026-11-02T10:00:00+00:00", seconds=3.0)
    second = run(recipe(PASS, name="a"), recipe(PASS, name="c"), started="2026-11-02T10:00:05+00:00", seconds=9.0)
    for order in ([first, second], [second, first]):
        whole = merged(order, [])
        assert [r.name for r in whole.recipes] == ["a", "b", "c"]
        assert whole.outcome is PASS
        assert whole.duration_seconds == 9.0
        assert (whole.run_id, whole.started_at, whole.provenance) == (
            first.run_id,
            first.started_at,
            first.provenance,
        )


def test_one_bad_part_spoils_the_whole() -> None:
    good, bad = run(recipe(PASS, name="a")), run(recipe(FAIL, name="b"))
    assert merged([good, bad], []).outcome is FAIL
    assert merged([good], ["a worker crashed"]).outcome is INCOMPLETE


def test_problems_of_all_parts_are_kept_once() -> None:
    parts = [
        run(recipe(PASS, name="a"), problems=("lost", "late")),
        run(recipe(PASS, name="b"), problems=("late",)),
    ]
    whole = merged(parts, ["lost", "new"])
    assert whole.problems == ("lost", "late", "new")
    assert whole.outcome is INCOMPLETE


def test_parts_of_one_recipe_are_joined() -> None:
    """`--dist loadfile` gives a recipe's files to several workers, whose tests may have one name."""
    parts = [recipe(PASS), replace(recipe(PASS, PASS), gates=other_file(recipe(PASS, PASS)))]
    whole = merged([run(part) for part in parts], [])
    (joined,) = whole.recipes
    assert [gate.id for gate in joined.gates] == ["animals/test/0", "animals/test/0#2", "animals/test/1"]
    assert whole.outcome is PASS


def test_joined_gates_of_a_slice_keep_their_names() -> None:
    """A "#" in a slice's value is no number of a gate."""
    one = recipe(PASS, PASS)
    ids = ("animals/test/m{room=a#1}", "animals/test/m{room=a#2}")
    one = replace(one, gates=tuple(replace(gate, id=name) for gate, name in zip(one.gates, ids, strict=True)))
    whole = merged([run(one), run(replace(one, gates=other_file(one)))], [])
    assert [gate.id for gate in whole.recipes[0].gates] == [*ids, *(f"{name}#2" for name in ids)]


def test_a_gate_that_was_decided_twice_counts_as_the_worse() -> None:
    for order in ([recipe(PASS), recipe(FAIL)], [recipe(FAIL), recipe(PASS)]):
        whole = merged([run(part) for part in order], [])
        assert [gate.verdict.outcome for gate in whole.recipes[0].gates] == [FAIL]
        assert whole.outcome is FAIL


def test_fails_are_corrected_over_the_gates_of_all_parts() -> None:
    """p = 0.02 stands beside one other gate, where 0.025 is asked, and not beside two."""

    def part(*outcomes: Outcome) -> RecipeResult:
        one = recipe(*outcomes)
        known = {"p_value": 0.02, "confidence": 0.95, "after_holm": True}
        first = replace(one.gates[0], verdict=replace(one.gates[0].verdict, **known))  # type: ignore[arg-type]
        return replace(one, gates=(first, *one.gates[1:]))

    for others, stands in (([recipe(PASS)], True), ([recipe(PASS), recipe(PASS)], False)):
        files = [replace(other, gates=other_file(other)) for other in others]
        files = [
            replace(other, gates=tuple(replace(gate, test=f"test {k}") for gate in other.gates))
            for k, other in enumerate(files)
        ]
        whole = merged([run(one) for one in [part(FAIL), *files]], [])
        assert [gate.verdict.after_holm for gate in whole.recipes[0].gates] == [stands, *([None] * len(others))]


def test_parts_with_different_adapters_are_no_verdict() -> None:
    whole = merged([run(recipe(PASS)), run(replace(recipe(PASS), adapter_digest="0" * 64))], [])
    assert whole.outcome is INCOMPLETE
    assert "different adapters" in str(whole.recipes[0].problem)


def other_file(of: RecipeResult) -> tuple[GateResult, ...]:
    return tuple(replace(gate, test="other test") for gate in of.gates)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="no run to merge"):
        merged([], [])


@pytest.mark.parametrize(
    ("one", "other", "worse"),
    [
        (PASS, Outcome.NOT_APPLICABLE, Outcome.NOT_APPLICABLE),
        (Outcome.NOT_APPLICABLE, FAIL, FAIL),
        (INCONCLUSIVE, INCOMPLETE, INCOMPLETE),
        (INCOMPLETE, FAIL, FAIL),
    ],
)
def test_of_a_gate_that_was_decided_twice_the_worse_counts(one: Outcome, other: Outcome, worse: Outcome) -> None:
    for order in ((one, other), (other, one)):
        whole = merged([run(recipe(outcome)) for outcome in order], [])
        assert [gate.verdict.outcome for gate in whole.recipes[0].gates] == [worse]
        assert whole.outcome is worse


def test_tests_of_two_processes_are_added_up_and_their_baseline_is_one() -> None:
    promoted = {"alias": "production", "version": 1, "adapter_digest": "a1"}
    one = replace(recipe(PASS), tests={"collected": 3, "passed": 1, "named": []}, suites={"a": "1"}, promoted=promoted)
    other = replace(recipe(PASS), tests={"collected": 3, "passed": 2, "named": []}, suites={"b": "2"})
    (joined,) = merged([run(one), run(other)], []).recipes
    assert joined.tests == {"collected": 3, "passed": 3, "named": []}
    assert joined.suites == {"a": "1", "b": "2"}
    assert joined.promoted == promoted
    later = replace(other, promoted={**promoted, "version": 2})
    whole = merged([run(one), run(later)], [])
    assert whole.outcome is INCOMPLETE
    problem = "Two processes compared with different promoted adapters of this recipe; run it again."
    assert whole.recipes[0].problem == problem
