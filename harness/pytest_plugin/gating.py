"""The `gate` fixture: every gate of a test is decided and recorded before the test fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.errors import GateError
from harness.records import ADAPTER, Outcome, Verdict

if TYPE_CHECKING:
    from harness.measures import Measure
    from harness.pipeline import Session

__all__ = ["Gate", "InconclusiveGateWarning"]


class InconclusiveGateWarning(pytest.PytestWarning):
    """A gate is inconclusive, and the run was told to warn of that instead of failing its test."""


class Gate:
    """Called with a measure and a rule; collects the verdicts of one test.

    warn: takes the warning of a gate that is inconclusive; None where such a gate fails the test.
    """

    def __init__(
        self, session: Session, recipe: str, test: str, *, warn: Callable[[Warning], None] | None = None
    ) -> None:
        self._session = session
        self._recipe = recipe
        self._test = test
        self._warn = warn
        self.verdicts: list[Verdict] = []

    def __call__(
        self,
        measure: Measure,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        compared_with: str | None = None,
        max_drop: float | None = None,
        min_gain: float | None = None,
        decide: Literal["point", "confident"] | None = None,
        confidence: float = 0.95,
        must_pass: Sequence[str] | None = None,
        slices: str | Sequence[str] | None = None,
        min_n: int | None = None,
        n: int | None = None,
        view: str = ADAPTER,
    ) -> Verdict | tuple[Verdict, ...]:
        """Decide one gate. The test goes on whatever the verdict, and fails at its end if it was not a pass.

        at_least, at_most: thresholds on the measure. compared_with: the view to compare with, and max_drop
        or min_gain. decide: "point" (default for thresholds) or "confident" (default for comparisons).
        must_pass: ids of examples that have to be right, beside a rule or alone.
        slices: a name of a slice, or several: the rule is decided on each value with at least min_n examples
        (default 20), and the verdicts come as a tuple, the worst first.
        n: the number of examples that there have to be.
        Raises GateError for arguments that make no rule.
        """
        from harness.gates import MIN_N
        from harness.measures import Measure

        if not isinstance(measure, Measure):
            raise GateError(
                f"gate takes a measure such as classification.macro_f1, got {type(measure).__name__}: "
                "a number has no interval and no examples to compare."
            )
        asked: dict[str, Any] = {
            "at_least": at_least,
            "at_most": at_most,
            "compared_with": compared_with,
            "max_drop": max_drop,
            "min_gain": min_gain,
            "confidence": confidence,
            "must_pass": must_pass,
            "n": n,
        }
        if slices is None:
            if min_n is not None:
                raise GateError(f"{measure.name}: min_n is for slices, and none is named. Add slices=, or write n=.")
            verdict = self._session.gate(self._recipe, measure, test=self._test, view=view, decide_by=decide, **asked)
            self.verdicts.append(verdict)
            return verdict
        verdicts = self._session.gate_slices(
            self._recipe,
            measure,
            test=self._test,
            view=view,
            decide=decide,
            slices=slices,
            min_n=MIN_N if min_n is None else min_n,
            **asked,
        )
        self.verdicts += verdicts
        return verdicts

    def close(self) -> None:
        """Fail the test if a gate did not pass, or if it has none: a test that asked nothing proves nothing."""
        if not self.verdicts:
            pytest.fail("the test uses the fixture `gate` and decided no gate", pytrace=False)
        if self._session.planning:
            return
        bad = [verdict for verdict in self.verdicts if verdict.outcome not in (Outcome.PASS, Outcome.NOT_APPLICABLE)]
        if self._warn is not None and all(verdict.outcome is Outcome.INCONCLUSIVE for verdict in bad):
            for verdict in bad:
                self._warn(InconclusiveGateWarning(_line(verdict)))
        elif bad:
            lines = [_line(verdict) for verdict in bad]
            pytest.fail("\n".join([f"{len(bad)} of {len(self.verdicts)} gates did not pass", *lines]), pytrace=False)


def _line(verdict: Verdict) -> str:
    from harness.report import drivers_in_words, slice_in_words

    measure = f"{verdict.measure} {slice_in_words(verdict)}".rstrip()
    return (
        f"{verdict.outcome.upper()}  {measure}: {verdict.rule}. {verdict.reason} {drivers_in_words(verdict)}".rstrip()
    )
