"""What is checked of an adapter without a model: which examples it is asked, and what its manifest says."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from harness.engine.integrity import check_training, not_attached, probes
from harness.errors import ScoringError
from harness.records import Example, IntegrityCheck


@pytest.mark.parametrize(
    ("n", "chosen"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 2, 4, 6]), (24, [0, 6, 12, 18])]
)
def test_examples_are_spread_over_the_test_set(n: int, chosen: list[int]) -> None:
    test = [Example(str(k), (), "x") for k in range(n)]
    assert [int(example.id) for example in probes(test)] == chosen


def manifest(*losses: float, made: Any = 20, planned: Any = 20) -> dict[str, Any]:
    return {"global_step": made, "max_steps": planned, "loss": [[k, loss] for k, loss in enumerate(losses, 1)]}


@pytest.mark.parametrize(
    ("made", "planned", "detail"),
    [
        (19, 20, "training made 19 of 20 steps"),
        (21, 20, "training made 21 of 20 steps"),
        (None, None, "the manifest does not say how many steps the training made"),
    ],
)
def test_a_training_that_was_cut_short(made: Any, planned: Any, detail: str) -> None:
    steps, loss = check_training(manifest(2.0, 1.0, made=made, planned=planned))
    assert steps == IntegrityCheck("steps_complete", False, detail)
    assert loss.passed


@pytest.mark.parametrize(
    ("losses", "passed", "detail"),
    [
        ((2.0, 1.0), True, "training loss 1 over the last step, 2 over the first"),
        ((1.0, 2.0), False, "the training loss did not fall (2 over the last step, 1 over the first)"),
        ((1.0, 1.0), False, "the training loss did not fall (1 over the last step, 1 over the first)"),
        # Two of ten: (3 + 1) / 2 = 2 and (0.5 + 2.5) / 2 = 1.5. The last step alone is above the second.
        ((3, 1, 2, 2, 2, 2, 2, 2, 0.5, 2.5), True, "training loss 1.5 over the last 2 steps, 2 over the first"),
        # Ten at most: a hundred steps whose last ten are 1.
        ((2.0,) * 90 + (1.0,) * 10, True, "training loss 1 over the last 10 steps, 2 over the first"),
        ((1.0,), False, "the training loss of 1 steps shows no fall"),
        ((), False, "the training loss of 0 steps shows no fall"),
        ((2.0, math.nan, 1.0), False, "the training loss is not finite at every step"),
        ((2.0, -math.inf), False, "the training loss is not finite at every step"),
    ],
)
def test_the_loss_has_to_fall(losses: tuple[float, ...], passed: bool, detail: str) -> None:
    steps, loss = check_training(manifest(*losses))
    assert steps == IntegrityCheck("steps_complete", True, "training made 20 of 20 steps")
    assert loss == IntegrityCheck("loss_fell", passed, detail)


@pytest.mark.parametrize("loss", [None, 3, "low", [1.0, 2.0], [[1, "low"]]])
def test_a_manifest_without_a_loss(loss: Any) -> None:
    assert check_training({**manifest(), "loss": loss})[1] == IntegrityCheck(
        "loss_fell", False, "the manifest has no training loss"
    )
    assert not any(check.passed for check in check_training({}))


def test_a_refused_adapter_is_one_failed_check() -> None:
    assert not_attached(ScoringError("it does not fit.")) == IntegrityCheck("keys_loaded", False, "it does not fit")


def test_importing_loads_no_model_library() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'numpy'}"
    program = f"import sys, harness.engine.integrity; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
