"""Judges: an answer, a question and a reference in, a grade from 1 to 5 by a rubric out; of two answers the better."""

from harness.judging.anthropic_judge import AnthropicJudge
from harness.judging.attacks import ATTACKS, Attack
from harness.judging.environment import judge_from_environment
from harness.judging.pairwise import Pair, PairToCompare, PairwiseJudge, Preference
from harness.judging.protocol import Answer, Grade, Judge, JudgeItem
from harness.judging.rubric import Criterion, Rubric, load_rubric
from harness.judging.standin import StandInJudge

__all__ = [
    "ATTACKS",
    "Answer",
    "AnthropicJudge",
    "Attack",
    "Criterion",
    "Grade",
    "Judge",
    "JudgeItem",
    "Pair",
    "PairToCompare",
    "PairwiseJudge",
    "Preference",
    "Rubric",
    "StandInJudge",
    "judge_from_environment",
    "load_rubric",
]
