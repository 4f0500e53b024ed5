"""What a promotion asks of a run, refusal by refusal; real records, adapters and registries, no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import promotable
import pytest
from promotable import ACCURACY, NAME, gate, record, result, run, scores

from harness.errors import PromotionError, StoreError
from harness.judging import load_rubric
from harness.pipeline import Places
from harness.pipeline.promoting import promote, roll_back
from harness.promotion import Registry, age_from, differences, read_envelope
from harness.records import IntegrityCheck, Outcome, RecipeResult, Rule
from harness.store import Store


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return promotable.save(tmp_path)


def promoted(places: Places, *recipes: RecipeResult, **options: Any) -> Any:
    run_id = record(places, run(*(recipes or (result(places),))))
    return promote(places, run_id, NAME, environ={}, **options)


def refused(
    places: Places, *recipes: RecipeResult, first: bool = True, of_run: Any = None, **options: Any
) -> list[str]:
    """The reasons, without where they are."""
    run_id = record(places, run(*(recipes or (result(places),)), **(of_run or {})))
    with pytest.raises(PromotionError) as caught:
        promote(places, run_id, NAME, first=first, environ={}, **options)
    assert all(line.startswith(f"{NAME}: run {run_id}: ") for line in caught.value.problems)
    assert Registry(places.store, NAME).live("staging") is None
    return [line.removeprefix(f"{NAME}: run {run_id}: ") for line in caught.value.problems]


def test_the_evidence_goes_into_the_attestation(places: Places) -> None:
    done = promoted(places, first=True)
    assert done.keyid is None
    assert done.folder == places.store / "registry" / NAME / "versions" / "1" / "adapter"
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    statement = read_envelope((done.folder.parent / "attestation.json").read_text(), "x")
    assert statement.files.keys() == {p.name for p in done.folder.iterdir()}
    evidence = statement.predicate
    recipe = result(places)
    assert evidence["adapter"] == {"digest": recipe.adapter_digest, "fingerprint": recipe.fingerprint}
    assert evidence["promotion"] == {
        "alias": "production",
        "version": 1,
        "at": evidence["promotion"]["at"],
        "replaces": None,
    }
    assert evidence["policy"] == {"changes": [], "accepted": None, "first": True, "max_age_seconds": 604_800.0}
    (asked,) = evidence["gates"]
    assert (asked["id"], asked["outcome"], asked["n"]) == (f"{NAME}/test_accuracy/{ACCURACY}", "pass", 24)
    assert asked["asked"]["at_least"] == 0.5
    assert asked["value"] == pytest.approx(23 / 24)
    assert evidence["suites"].keys() == {"suites/test_animals.py"}
    assert evidence["data"].keys() == {"train", "validation", "test"}
    assert evidence["provenance"]["git"] == {"commit": "c0", "dirty": False}


UNSOUND = IntegrityCheck("weights_finite", False, "1 of 28 tensors hold values that are not finite")
REFUSALS: dict[str, tuple[Callable[[Places], RecipeResult], str]] = {
    "a gate failed": (lambda p: result(p, gate(at_least=0.99)), f"{NAME}/test_accuracy/{ACCURACY}: fail, not pass"),
    "a gate is inconclusive": (
        lambda p: result(p, gate(at_least=0.95, decide="confident"), gate(test="test_more", at_least=0.1)),
        f"{NAME}/test_accuracy/{ACCURACY}: inconclusive, not pass",
    ),
    "no gate": (lambda p: replace(result(p), gates=()), "no gate passed"),
    "a problem": (
        lambda p: result(p, problem="1 of its tests\nwere skipped"),
        "the recipe did not finish: 1 of its tests were skipped",
    ),
    "not sound": (
        lambda p: result(p, integrity=(UNSOUND,)),
        "the adapter is not sound: 1 of 28 tensors hold values that are not finite",
    ),
    "not checked": (lambda p: result(p, integrity=()), "the adapter was not checked; ask a gate on the view adapter"),
    "fewer passed": (lambda p: result(p, tests={"collected": 3, "passed": 2}), "2 of 3 collected tests passed"),
    "no test": (lambda p: result(p, tests={"collected": 0, "passed": 0}), "0 of 0 collected tests passed"),
    "tests unknown": (
        lambda p: result(p, tests={}),
        "the run does not say which tests it collected; run the suites again with this version",
    ),
    "by name": (
        lambda p: result(p, tests={"collected": 1, "passed": 1, "named": ["suites/test_a.py::test_it"]}),
        "only some tests were asked for (suites/test_a.py::test_it); run the whole suites",
    ),
    "no adapter": (lambda p: result(p, adapter_digest=None), "the run does not say which adapter it measured"),
    "no base": (
        lambda p: result(p, base_digest=None),
        "the run does not say which base model it measured; run the suites again with this version",
    ),
    "no data": (lambda p: result(p, data={}), "the run does not say which test data it used"),
    "no rule": (
        lambda p: result(p, replace(gate(), verdict=replace(gate().verdict, asked=None))),
        f"{NAME}/test_accuracy/{ACCURACY}: its rule was not recorded; run the suites again with this version",
    ),
    "other base": (
        lambda p: result(p, base_digest="00"),
        "the adapter was trained on another base model than it was measured on",
    ),
    "other train data": (
        lambda p: result(p, data={**result(p).data, "train": {"sha256": "00"}}),
        "the adapter was trained on other train data than the run says",
    ),
    "other adapter": (
        lambda p: result(p, adapter_digest="00"),
        "the adapter in the store is not the one that was measured; run the suites again",
    ),
    "freed adapter": (
        lambda p: result(p, fingerprint="00"),
        "its adapter is not whole in {store}; run the suites again",
    ),
    "other examples": (
        lambda p: result(p, gate(scores(n=23))),
        f"{NAME}/test_accuracy/{ACCURACY}: the report says pass with 1.000 on 23 examples, and the scores beside it "
        "pass with 0.958 on 24 examples; run the suites again",
    ),
    "no scores": (
        lambda p: result(p, gate(scores(measure="classification.macro_f1"))),
        f"{NAME}/test_accuracy/classification.macro_f1: the scores in the record cannot decide it "
        "(('classification.macro_f1', 'adapter')); run the suites again",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_run_that_does_not_prove_it(places: Places, why: str) -> None:
    change, reason = REFUSALS[why]
    assert reason.replace("{store}", str(places.store)) in refused(places, change(places))


def test_a_run_with_a_problem_another_recipe_and_no_run(places: Places) -> None:
    assert refused(places, of_run={"problems": ("worker gw0 ended without its results",)}) == [
        "the run has a problem: worker gw0 ended without its results"
    ]
    run_id = record(places, run(replace(result(places), name="others"), problems=("gw1 is gone",)))
    with pytest.raises(PromotionError) as caught:
        promote(places, run_id, NAME, first=True, environ={})
    assert caught.value.problems == (
        f"{NAME}: run {run_id} did not test this recipe; its recipes: others",
        f"{NAME}: run {run_id}: gw1 is gone",
    )
    with pytest.raises(StoreError, match="there is no run '2001'"):
        promote(places, "2001", NAME, first=True, environ={})


def test_age(places: Places) -> None:
    day_old = {"started_at": (datetime.now(UTC) - timedelta(days=8)).isoformat()}
    assert refused(places, of_run=day_old) == [
        "the run is 8 days old, and 7 days are allowed; run again, or raise --max-age"
    ]
    assert promoted(places, first=True, max_age=timedelta(days=9)).move.version == 1
    ahead = {"started_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    (reason,) = refused(places, of_run=ahead, first=False)
    assert reason.startswith("the run started in the future, at 20")
    assert refused(places, of_run={"started_at": "yesterday"}, first=False) == [
        "the run does not say when it started: 'yesterday'"
    ]
    assert refused(places, of_run={"started_at": "2026-11-23T10:00:00"}, first=False)[0].startswith(
        "the run does not say when"
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("0d", 0)]
)
def test_ages_in_words(text: str, seconds: int) -> None:
    assert age_from(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "7 days", "1e3s", "9999999d"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(PromotionError, match="--max-age must be a number and s, m, h or d, such as 7d or 12h, got"):
        age_from(text)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


CHANGES: dict[str, tuple[Callable[[Places], object], str]] = {
    "suite": (
        lambda p: edit(p.root / "suites" / "test_animals.py", "0.7", "0.8"),
        "suites/test_animals.py was changed after the run; run the suites again",
    ),
    "suite gone": (
        lambda p: (p.root / "suites" / "test_animals.py").unlink(),
        "suites/test_animals.py was changed after the run; run the suites again",
    ),
    "recipe": (
        lambda p: edit(p.recipes / "animals.yaml", "seed: 0", "seed: 1"),
        "animals.yaml was changed after the run; run the suites again",
    ),
    "recipe gone": (
        lambda p: (p.recipes / "animals.yaml").unlink(),
        "there is no recipe animals in {recipes} any more",
    ),
    "recipe broken": (
        lambda p: edit(p.recipes / "animals.yaml", "seed: 0", "sed: 0"),
        "the recipe cannot be read any more: ",
    ),
    "test data": (
        lambda p: edit(p.recipes.parent / "data" / "test.jsonl", "the", "a"),
        "the test data was changed after the run; run the suites again",
    ),
    "weights": (
        lambda p: next((p.store / "adapters").glob("*/*.safetensors")).write_bytes(b"weightz"),
        "its adapter is not whole in {store}; run the suites again",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_project_that_is_not_as_it_was_measured(places: Places, what: str) -> None:
    change, reason = CHANGES[what]
    run_id = record(places, run(result(places)))
    change(places)
    with pytest.raises(PromotionError) as caught:
        promote(places, run_id, NAME, first=True, environ={})
    (line,) = caught.value.problems
    assert reason.format(recipes=places.recipes, store=places.store) in line


def test_first_is_said_for_the_first_alone(places: Places) -> None:
    assert refused(places, first=False) == [
        "nothing was promoted before, so nothing was compared with; say --first if that is meant"
    ]
    promoted(places, first=True)
    assert refused(places) == ["--first, and version 1 is production already; leave --first out"]
    assert promoted(places, first=True, alias="staging").move.version == 2


def waiting() -> Any:
    """A gate that had nothing to compare with."""
    known = gate(scores(), scores("promoted"), test="test_promoted", compared_with="promoted", max_drop=0.2)
    reason = "Not applicable: no adapter of animals was promoted to production yet."
    return replace(
        known, verdict=replace(known.verdict, outcome=Outcome.NOT_APPLICABLE, value=None, n=0, reason=reason)
    )


def compared(right: int = 22) -> Any:
    theirs = scores("promoted", right=right)
    return gate(scores(), theirs, test="test_promoted", compared_with="promoted", max_drop=0.2)


def test_a_gate_that_is_not_applicable_is_for_the_first_promotion_alone(places: Places) -> None:
    assert refused(places, result(places, waiting())) == ["no gate passed"]
    promoted(places, result(places, gate(), waiting()), first=True)
    (reason,) = refused(places, result(places, gate(), waiting()), first=False)
    assert reason == (
        f"{NAME}/test_promoted/{ACCURACY}: not applicable, and version 1 is production by now; run the suites again to "
        "compare with it"
    )


def test_a_comparison_with_another_than_the_live_one_is_stale(places: Places) -> None:
    promotable.keep_adapter(places, b"better")
    promoted(places, first=True)
    digest = result(places).adapter_digest
    known = {"alias": "production", "version": 1, "adapter_digest": digest}
    better = result(places, gate(), compared(), weights=b"better", promoted=known)
    promoted(places, better)
    assert refused(places, better, first=False) == [
        "it was compared with version 1 of production, and production is version 2; run the suites again"
    ]
    (reason,) = refused(places, replace(better, promoted={}), first=False)
    assert reason == "it was compared with nothing, and production is version 2; run the suites again"


def test_a_loosened_gate_needs_a_reason_that_is_kept(places: Places) -> None:
    promoted(places, result(places, gate(at_least=0.9)), first=True)
    looser = result(places, gate(at_least=0.8))
    change = f"{NAME}/test_accuracy/{ACCURACY}: at_least=0.8 instead of 0.9"
    assert refused(places, looser, first=False) == [
        f"a gate asks less than at the last promotion: {change}",
        'if that is meant, say why with --accept-policy-change "reason"',
    ]
    done = promoted(places, looser, accepted="the old bar was a typo")
    assert done.changes == (change,)
    assert done.move.reason == "the old bar was a typo"
    policy = Registry(places.store, NAME).version(2).statement.predicate["policy"]
    assert (policy["changes"], policy["accepted"]) == ([change], "the old bar was a typo")
    assert promoted(places, looser).move.version == 3  # accepted once
    # A rollback does not bring the looser policy back in through the back door.
    promoted(places, result(places, gate(at_least=0.9)))
    roll_back(places.store, NAME)
    assert change in refused(places, looser, first=False)[0]


def test_accepting_what_did_not_change_is_refused(places: Places) -> None:
    promoted(places, first=True)
    assert refused(places, first=False, accepted="just in case") == [
        "--accept-policy-change, and no gate asks less than at the last promotion; leave it out"
    ]


def test_slices_and_named_examples_are_decided_again(places: Places) -> None:
    from harness.gates import decide_slices, rule_from
    from harness.records import GateResult

    halves = replace(scores(), slices={"half": ("0",) * 12 + ("1",) * 12})
    rule = rule_from(at_least=0.5)
    verdicts = decide_slices(rule, halves, None, view="adapter", slices="half", min_n=12)
    sliced = [GateResult(f"{NAME}/test_half/{ACCURACY}{{half={v.slice_value}}}", "test_half", v) for v in verdicts]
    named = gate(halves, test="test_named", must_pass=["test-0", "test-1"])
    good = result(places, *sliced, named)
    run_id = record(places, run(good), (halves,))
    assert promote(places, run_id, NAME, first=True, environ={}).move.version == 1
    wrong = replace(halves, values=(0.0, *halves.values[1:]))
    run_id = record(places, run(good), (wrong,))
    with pytest.raises(PromotionError) as caught:
        promote(places, run_id, NAME, environ={})
    ids = [line.split(": ")[2] for line in caught.value.problems]
    assert ids == [f"{NAME}/test_half/{ACCURACY}{{half=0}}", f"{NAME}/test_named/{ACCURACY}"]


RUBRIC = """\
name: animals
task: Says what it is.
criteria:
  - {name: correctness, weight: 1, anchors: {1: a, 2: b, 3: c, 4: d, 5: e}}
"""


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({}, "the record does not say whether the judge of its gates was checked; run the suites again"),
        (
            {"calibrated": True, "problem": "judge drift"},
            "gates passed by a judge that may decide nothing: judge drift",
        ),
        ({"kappa": {"value": 0.3}}, "its judge agrees with people at a kappa of 0.30, and the rubric asks for 0.4"),
        ({"kappa": None}, "its judge agrees with people at a kappa of not known, and the rubric asks for 0.4"),
        ({"rubric_digest": "of another"}, "the judge's rubric was changed after the run; run the suites again"),
    ],
)
def test_a_judge_that_may_decide_nothing_promotes_nothing(places: Places, known: dict[str, Any], reason: str) -> None:
    places.rubrics.mkdir(parents=True)
    (places.rubrics / f"{NAME}.yaml").write_text(RUBRIC)
    digest = load_rubric(places.rubrics / f"{NAME}.yaml").digest
    fit = {"calibrated": True, "problem": None, "kappa": {"value": 0.8}, "rubric_digest": digest}
    judged = gate(scores(measure="judge.score"))
    calibration = {**fit, **known} if known else {}
    assert reason in refused(places, result(places, judged, calibration=calibration))
    (clean,) = [refused(places, result(places, judged, calibration=fit), first=False)]
    assert not any("judge" in line and "scores in the record" not in line for line in clean)


def test_all_reasons_come_at_once(places: Places) -> None:
    reasons = refused(
        places,
        result(places, gate(at_least=0.99), problem="stopped", tests={}),
        of_run={"problems": ("gone",)},
        first=False,
    )
    assert len(reasons) == 6


def test_a_key_that_is_wrong_promotes_nothing(places: Places) -> None:
    run_id = record(places, run(result(places)))
    with pytest.raises(PromotionError, match="HARNESS_SIGNING_KEY: is neither PEM nor base64"):
        promote(places, run_id, NAME, first=True, environ={"HARNESS_SIGNING_KEY": "x"})
    assert Registry(places.store, NAME).history() == ()


def test_rolling_back(places: Places) -> None:
    with pytest.raises(
        PromotionError, match="animals: nothing was promoted to production, so there is nothing to roll"
    ):
        roll_back(places.store, NAME)
    promoted(places, first=True)
    with pytest.raises(PromotionError, match="animals: version 1 is the first production; name another with --to"):
        roll_back(places.store, NAME)
    with pytest.raises(PromotionError, match="animals: version 1 is production already"):
        roll_back(places.store, NAME, to=1)
    with pytest.raises(PromotionError, match="animals: there is no version 7; there is: 1"):
        roll_back(places.store, NAME, to=7)
    promoted(places)
    weights = places.store / "registry" / NAME / "versions" / "1" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(b"other")
    with pytest.raises(StoreError, match=r"is not what was promoted: adapter_model\.safetensors has sha256"):
        roll_back(places.store, NAME)
    weights.write_bytes(b"weights")
    assert roll_back(places.store, NAME, reason="slow").version == 1


def test_a_rule_is_kept_whole() -> None:
    """Every field of a rule is in the evidence, so that none can be loosened unseen."""
    kept = json.loads(json.dumps(promotable_facts()))
    assert kept.keys() == set(Rule.__slots__)


def promotable_facts() -> dict[str, Any]:
    from harness.promotion.evidence import gate_facts

    asked: dict[str, Any] = gate_facts(gate())["asked"]
    return asked


def test_the_place_of_the_model_card_is_left_free(places: Places) -> None:
    """PEFT writes a README.md beside the weights; the card takes its place, and `verify` still knows the adapter."""
    with Store(places.store).work_folder() as work:
        (work / "adapter").mkdir()
        for name in ("README.md", "adapter_config.json", "adapter_model.safetensors"):
            (work / "adapter" / name).write_bytes(b"readme")
        kept = promotable.keep_adapter(places, b"readme")
        manifest = {k: v for k, v in kept.manifest.items() if k not in ("files", "fingerprint")}
        shutil.rmtree(kept.folder)
        Store(places.store).keep_adapter(work / "adapter", kept.fingerprint, manifest)
    done = promoted(places, result(places, weights=b"readme"), first=True)
    assert not (done.folder / "README.md").exists()
    statement = read_envelope((done.folder.parent / "attestation.json").read_text(), "x")
    assert "README.md" not in statement.files
    (done.folder / "README.md").write_text("a card")
    assert differences(done.folder, statement.files) == ()
