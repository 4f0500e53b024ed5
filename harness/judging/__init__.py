"""Judges: an answer, a question and a reference in, a grade from 1 to 5 by a rubric out; of two answers the better."""

from harness.judging.anthropic_judge import AnthropicJudge
from harness.judging.attacks import ATTACKS, Attack
from harness.judging.batch import BatchJudge
from harness.judging.budget import Budget
from harness.judging.calibration import HumanGrades, load_human_grades
from harness.judging.environment import configured_judges, judge_from_environment
from harness.judging.pairwise import ArrivingPairwiseJudge, Pair, PairToCompare, PairwiseJudge, Preference
from harness.judging.panel import Panel
from harness.judging.prices import prices_as_of
from harness.judging.protocol import Answer, ArrivingJudge, Grade, Judge, JudgeItem
from harness.judging.rubric import Criterion, Rubric, load_rubric
from harness.judging.settings import SETTINGS, VARIABLES, JudgeSettings, read_settings
from harness.judging.standin import StandInJudge
from harness.judging.usage import Meter, joined_judging

__all__ = [
    "ATTACKS",
    "SETTINGS",
    "VARIABLES",
    "Answer",
    "AnthropicJudge",
    "ArrivingJudge",
    "ArrivingPairwiseJudge",
    "Attack",
    "BatchJudge",
    "Budget",
    "Criterion",
    "Grade",
    "HumanGrades",
    "Judge",
    "JudgeItem",
    "JudgeSettings",
    "Meter",
    "Pair",
    "PairToCompare",
    "PairwiseJudge",
    "Panel",
    "Preference",
    "Rubric",
    "StandInJudge",
    "configured_judges",
    "joined_judging",
    "judge_from_environment",
    "load_human_grades",
    "load_rubric",
    "prices_as_of",
    "read_settings",
]
