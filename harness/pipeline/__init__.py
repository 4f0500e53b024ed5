"""Composes the rooms: recipe, data, engine, measures, gates, store. No pytest here."""

from harness.pipeline.evaluation import RecipeRun
from harness.pipeline.planning import PlanningSession
from harness.pipeline.session import Places, Session

__all__ = ["Places", "PlanningSession", "RecipeRun", "Session"]
