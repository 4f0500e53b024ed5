"""YAML recipes: reading, checking, inheritance, and the fingerprint of what they describe."""

from __future__ import annotations

from harness.recipes.identity import fingerprint, resolved, training_identity
from harness.recipes.loading import check_recipe, find_recipes, load_recipe
from harness.recipes.recipe import Base, Data, Evaluation, Recipe
from harness.recipes.schema import recipe_schema

__all__ = [
    "Base",
    "Data",
    "Evaluation",
    "Recipe",
    "check_recipe",
    "find_recipes",
    "fingerprint",
    "load_recipe",
    "recipe_schema",
    "resolved",
    "training_identity",
]
