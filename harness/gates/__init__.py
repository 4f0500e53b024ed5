"""Gates: scores, a baseline and a rule in, a verdict out."""

from __future__ import annotations

from harness.gates.decisions import MIN_N, decide, decide_slices, overall, unmeasured
from harness.gates.early import Take, decide_early
from harness.gates.informative import chance_caveat, constant_answers, label_caveat
from harness.gates.plans import Plan, plan_gate, plan_slices
from harness.gates.rules import check_whole, in_words, rule_from
from harness.gates.several import name_fails

__all__ = [
    "MIN_N",
    "Plan",
    "Take",
    "chance_caveat",
    "check_whole",
    "constant_answers",
    "decide",
    "decide_early",
    "decide_slices",
    "in_words",
    "label_caveat",
    "name_fails",
    "overall",
    "plan_gate",
    "plan_slices",
    "rule_from",
    "unmeasured",
]
