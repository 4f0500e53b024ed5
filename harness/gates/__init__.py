"""Gates: scores, a baseline and a rule in, a verdict out."""

from __future__ import annotations

from harness.gates.decisions import decide, overall
from harness.gates.rules import in_words, rule_from

__all__ = ["decide", "in_words", "overall", "rule_from"]
