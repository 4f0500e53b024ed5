"""Judges: an answer, a question and a reference in, a grade from 1 to 5 by a rubric out."""

from harness.judging.anthropic_judge import AnthropicJudge
from harness.judging.calibration import load_human_grades
from harness.judging.environment import judge_from_environment
from harness.judging.protocol import Answer, Grade, Judge, JudgeItem
from harness.judging.rubric import Criterion, Rubric, load_rubric
from harness.judging.standin import StandInJudge

__all__ = [
    "Answer",
    "AnthropicJudge",
    "Criterion",
    "Grade",
    "Judge",
    "JudgeItem",
    "Rubric",
    "StandInJudge",
    "judge_from_environment",
    "load_human_grades",
    "load_rubric",
]
