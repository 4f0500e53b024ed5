"""Which judge an environment allows."""

from __future__ import annotations

from collections.abc import Mapping

from harness.judging.anthropic_judge import AnthropicJudge, Secret
from harness.judging.protocol import Judge
from harness.judging.rubric import Rubric
from harness.judging.standin import StandInJudge

__all__ = ["judge_from_environment"]

KEY = "ANTHROPIC_API_KEY"


def judge_from_environment(rubric: Rubric, env: Mapping[str, str]) -> Judge:
    """The Anthropic judge where ANTHROPIC_API_KEY is set and not blank, else the stand-in.

    No other variable is read: the address of the API is never taken from the environment.
    """
    key = Secret(env.get(KEY, "").strip())
    del env  # pytest --showlocals would print it with the key, should anything below fail
    return AnthropicJudge(rubric, key) if key else StandInJudge()
