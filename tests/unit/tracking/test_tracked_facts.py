"""What a tracker is given of a run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import report_runs

from harness.tracking import tracked_recipes
from harness.tracking.mlflow_tracker import key_name


def test_a_recipe_with_everything() -> None:
    run = dataclasses.replace(
        report_runs.run(), provenance={"harness": "0.1.0", "git": {"commit": "c0ffee", "dirty": False}}
    )
    (tracked,) = tracked_recipes(run)
    assert (tracked.recipe, tracked.run_id, tracked.outcome) == ("invoices", "20261123-140712-a4f1", "pass")
    # The empty revision of the config is left out, not written as None.
    assert tracked.params == {"lora.r": "16", "lora.target_modules": '["q_proj", "v_proj"]', "seed": "0"}
    assert tracked.tags == {
        "harness.run_id": "20261123-140712-a4f1",
        "harness.recipe": "invoices",
        "harness.outcome": "pass",
        "harness.base": "smollm2-135m-instruct",
        "harness.fingerprint": "f1" * 32,
        "harness.adapter_digest": "ad" * 32,
        "harness.version": "0.1.0",
        "harness.commit": "c0ffee",
        "harness.data.test.sha256": "da" * 32,
        "harness.data.test.examples": "360",
    }
    assert tracked.curves == {"loss/train": ((1, 2.5), (100, 0.25)), "loss/validation": ((50, 0.5), (100, 0.4))}
    of_adapter = {k: v for k, v in tracked.measures.items() if k.startswith("classification.macro_f1/adapter")}
    assert of_adapter == {
        "classification.macro_f1/adapter": 0.912,
        "classification.macro_f1/adapter/low": pytest.approx(0.862),
        "classification.macro_f1/adapter/high": pytest.approx(0.962),
        "classification.macro_f1/adapter/n": 360,
        "classification.macro_f1/adapter/n_unscored": 0,
    }
    assert tracked.measures["gates/pass"] == 2
    assert tracked.measures["training/tokens"] == 61_440
    threshold, drop = tracked.gates
    assert (threshold["id"], threshold["outcome"], threshold["value"]) == ("invoices/test_it/0", "pass", 0.912)
    assert (drop["compared_with"], drop["margin"], drop["difference"]) == ("base", 0.05, -0.012)


def test_what_is_missing_is_left_out_and_never_zero() -> None:
    unmeasured = report_runs.measure("classification.macro_f1", "adapter", None, n=0, note="no example was scored")
    every, stopped = report_runs.failing().recipes
    run = report_runs.run(dataclasses.replace(every, measures=(unmeasured,)), stopped)
    one, two = tracked_recipes(run)
    assert {k: v for k, v in one.measures.items() if k.startswith("classification")} == {
        "classification.macro_f1/adapter/n": 0,
        "classification.macro_f1/adapter/n_unscored": 0,
    }
    assert one.measures["gates/incomplete"] == 1
    assert "harness.adapter_digest" not in two.tags
    assert two.tags["harness.problem"] == "the loss is NaN at step 31"
    assert (two.measures, two.curves, two.gates) == ({}, {}, ())


def test_everything_is_plain() -> None:
    for run in (report_runs.run(), report_runs.failing(), report_runs.by_slice(), report_runs.corrected()):
        for tracked in tracked_recipes(run):
            json.dumps(dataclasses.asdict(tracked), allow_nan=False)


def test_a_long_value_is_cut() -> None:
    recipe = report_runs.recipe(config={"data": {"system": "x" * 10_000}})
    (tracked,) = tracked_recipes(report_runs.run(recipe))
    assert tracked.params == {"data.system": "x" * 2_000}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("classification.macro_f1/adapter", "classification.macro_f1/adapter"),
        ("classification.f1[fee]/adapter/low", "classification.f1.fee/adapter/low"),
        ("loss/train", "loss/train"),
    ],
)
def test_keys_for_mlflow(name: str, key: str) -> None:
    assert key_name(name) == key


def test_keys_that_had_to_change_stay_apart() -> None:
    names = ["a[x=1]", "a[x=2]", "a[x#1]", "é", "è", "x" * 300, "x" * 301, "../a", "a//b", "a/./b", "/a", "a\nb"]
    keys = [key_name(name) for name in names]
    assert len({*keys}) == len(names)
    assert all(0 < len(key) <= 250 and key.isascii() and key.isprintable() for key in keys)
    assert key_name("a[x=1]").startswith("a_x_1_-")
