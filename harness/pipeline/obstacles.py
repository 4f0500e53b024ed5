"""Why a gate is not decided on scores, whatever they are."""

from __future__ import annotations

from typing import NamedTuple

from harness.errors import HarnessError
from harness.gates import constant_answers
from harness.pipeline.evaluation import RecipeRun
from harness.records import ADAPTER, BASE, PROMOTED, Outcome, Outputs, Rule

__all__ = ["Obstacle", "constant", "copied_answers", "obstacle_of"]


class Obstacle(NamedTuple):
    """Why a gate is not decided on scores, as a sentence, and what it is instead."""

    reason: str
    outcome: Outcome = Outcome.INCOMPLETE


def obstacle_of(run: RecipeRun, measure: str, rule: Rule, view: str) -> Obstacle | None:
    unsound = _unsound(run, rule, view)
    if unsound is not None:
        return Obstacle(unsound)
    if PROMOTED in (view, rule.compared_with):
        try:
            promoted = run.promoted()
        except HarnessError as error:
            return Obstacle(f"Not decided: {error}")
        if promoted is None:
            return Obstacle(
                f"Not applicable: no adapter of {run.recipe.name} was promoted to {run.baseline_alias} yet. A first "
                "one is promoted with `harness promote RUN --first`.",
                Outcome.NOT_APPLICABLE,
            )
    unfit = _unfit(run, measure)
    if unfit is not None:
        return Obstacle(unfit)
    if rule.early_stop or not measure.startswith("judge."):
        return None
    # Looked at before the judge is asked: it is asked nothing then.
    views = (run.replicate_views() if view == ADAPTER else ()) or (view,)
    return next(filter(None, (constant(run.answer(one)) for one in views)), None)


def constant(outputs: Outputs) -> Obstacle | None:
    """For a measure of the judge: where it would be, or was, shown one answer to all questions."""
    problem = constant_answers(outputs)
    return None if problem is None else Obstacle(f"Not decided: {problem}.")


def _unsound(run: RecipeRun, rule: Rule, view: str) -> str | None:
    """Why nothing may be measured with the adapter, as a sentence, or None; also where no adapter is asked for."""
    if ADAPTER not in (view, rule.compared_with):
        return None
    failed = [check.detail for check in run.integrity() if not check.passed]
    return f"Not decided: the adapter is not sound: {'; '.join(failed)}." if failed else None


def _unfit(run: RecipeRun, measure: str) -> str | None:
    """Why the recipe's judge may decide nothing, as a sentence, or None; also for measures without a judge."""
    if not measure.startswith("judge."):
        return None
    problem = run.judge_problem()
    return None if problem is None else f"Not decided: {problem}."


def copied_answers(run: RecipeRun, measure: str, rule: Rule, view: str) -> str | None:
    """As `_unsound`, where the adapter's answers are known to be the base's.

    The adapter changes logits, so label scores that agree to the last digit are not its own.
    """
    if {ADAPTER, BASE} != {view, rule.compared_with} or not measure.startswith("classification."):
        return None
    ours, theirs = (run.choices.get(one) for one in (ADAPTER, BASE))
    if ours is None or theirs is None or ours.log_likelihoods != theirs.log_likelihoods:
        return None
    return (
        "Not decided: the label scores of the adapter are those of the base to the last digit, so one of them answered "
        "for both. Remove the folder answers of the store and run again."
    )
