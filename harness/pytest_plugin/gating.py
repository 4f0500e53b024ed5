"""The `gate` fixture: every gate of a test is decided and recorded before the test fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.errors import GateError
from harness.records import ADAPTER, Outcome, Verdict

if TYPE_CHECKING:
    from harness.measures import Measure
    from harness.pipeline import Session

__all__ = ["Gate"]


class Gate:
    """Called with a measure and a rule; collects the verdicts of one test."""

    def __init__(self, session: Session, recipe: str, test: str) -> None:
        self._session = session
        self._recipe = recipe
        self._test = test
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
        view: str = ADAPTER,
    ) -> Verdict:
        """Decide one gate. The test goes on whatever the verdict, and fails at its end if it was not a pass.

        at_least, at_most: thresholds on the measure. compared_with: the view to compare with, and max_drop
        or min_gain. decide: "point" (default for thresholds) or "confident" (default for comparisons).
        Raises GateError for arguments that make no rule.
        """
        from harness.measures import Measure

        if not isinstance(measure, Measure):
            raise GateError(
                f"gate takes a measure such as classification.macro_f1, got {type(measure).__name__}: "
                "a number has no interval and no examples to compare."
            )
        rule: dict[str, Any] = {
            "at_least": at_least,
            "at_most": at_most,
            "compared_with": compared_with,
            "max_drop": max_drop,
            "min_gain": min_gain,
        }
        verdict = self._session.gate(
            self._recipe,
            measure,
            test=self._test,
            view=view,
            decide_by=decide,
            confidence=confidence,
            **rule,
        )
        self.verdicts.append(verdict)
        return verdict

    def close(self) -> None:
        """Fail the test if a gate did not pass, or if it has none: a test that asked nothing proves nothing."""
        if not self.verdicts:
            pytest.fail("the test uses the fixture `gate` and decided no gate", pytrace=False)
        bad = [verdict for verdict in self.verdicts if verdict.outcome is not Outcome.PASS]
        if bad:
            lines = [
                f"{verdict.outcome.upper()}  {verdict.measure}: {verdict.rule}. {verdict.reason}" for verdict in bad
            ]
            pytest.fail("\n".join([f"{len(bad)} of {len(self.verdicts)} gates did not pass", *lines]), pytrace=False)
