from __future__ import annotations

import math

import pytest

from harness.errors import GateError
from harness.gates import in_words, rule_from
from harness.records import Rule


@pytest.mark.parametrize(
    ("arguments", "rule", "words"),
    [
        ({"at_least": 0.9}, Rule(at_least=0.9), "at least 0.900"),
        ({"at_most": 1, "bounds": (0, 5)}, Rule(at_most=1.0), "at most 1.000"),
        (
            {"at_least": 0.2, "at_most": 0.4, "decide": "confident"},
            Rule(at_least=0.2, at_most=0.4, decide="confident"),
            "at least 0.200 and at most 0.400",
        ),
        (
            {"compared_with": "base", "max_drop": 0.05},
            Rule(compared_with="base", max_drop=0.05, decide="confident"),
            "drop vs base at most 0.050",
        ),
        (
            {"compared_with": "prompted_base", "min_gain": 0.1, "decide": "point", "confidence": 0.9},
            Rule(compared_with="prompted_base", min_gain=0.1, decide="point", confidence=0.9),
            "gain over prompted_base at least 0.100",
        ),
        (
            {"compared_with": "adapter", "max_drop": 0, "view": "base"},
            Rule(compared_with="adapter", max_drop=0.0, decide="confident"),
            "drop vs adapter at most 0.000",
        ),
        (
            {"compared_with": "base", "at_least": 0.5, "pairwise": True},
            Rule(compared_with="base", at_least=0.5, decide="confident"),
            "at least 0.500 against base",
        ),
        (
            {"compared_with": "base", "at_least": 0.4, "at_most": 0.6, "decide": "point", "pairwise": True},
            Rule(compared_with="base", at_least=0.4, at_most=0.6, decide="point"),
            "at least 0.400 and at most 0.600 against base",
        ),
        (
            {"compared_with": "base", "must_pass": ["t-1"], "pairwise": True},
            Rule(compared_with="base", must_pass=("t-1",), decide="confident"),
            "right on 1 named example",
        ),
    ],
)
def test_rules_and_their_words(arguments, rule, words):
    made = rule_from(**arguments)
    assert made == rule
    assert in_words(made) == words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no rule. Give at_least, at_most, compared_with .* or must_pass"),
        ({"at_least": math.nan}, "at_least must be a finite number, got nan"),
        ({"at_most": math.inf}, "at_most must be a finite number, got inf"),
        ({"at_least": True}, "at_least must be a number, got True"),
        ({"at_least": "0.9"}, "at_least must be a number, got '0.9'"),
        ({"at_least": 90}, "at_least=90 is outside what the measure can be, 0 to 1"),
        ({"at_most": -0.1}, "at_most=-0.1 is outside"),
        ({"at_least": 0.9, "at_most": 0.1}, "at least 0.9 and at most 0.1. Swap"),
        ({"compared_with": "base"}, "needs max_drop .* or min_gain"),
        ({"max_drop": 0.1}, "max_drop needs a view to compare with"),
        ({"min_gain": 0.1}, "min_gain needs a view to compare with"),
        ({"compared_with": "base", "max_drop": 0.1, "min_gain": 0.1}, "contradict each other"),
        ({"compared_with": "base", "max_drop": -0.1}, "max_drop=-0.1 must be at least 0 and below 1"),
        ({"compared_with": "base", "max_drop": 1.0}, "max_drop=1 must be at least 0 and below 1"),
        ({"compared_with": "base", "min_gain": math.nan}, "min_gain must be a finite number"),
        ({"compared_with": "base", "min_gain": False}, "min_gain must be a number, got False"),
        ({"compared_with": "base", "max_drop": 0.1, "at_least": 0.9}, "one kind of rule"),
        ({"compared_with": "base", "at_least": 0.9}, "one kind of rule"),
        ({"compared_with": "adapter", "max_drop": 0.1}, "compared with itself. .*: base, prompted_base"),
        ({"compared_with": "gpt", "max_drop": 0.1}, "'gpt' is not a view. Views: base, "),
        ({"compared_with": "base", "max_drop": 0.1, "measure": "x.perplexity_loss"}, "lower is better"),
        ({"at_least": 0.9, "decide": "maybe"}, 'decide must be "point" or "confident", got \'maybe\''),
        ({"at_least": 0.9, "confidence": 95}, "confidence must be above 0.5 and below 1, got 95"),
        ({"at_least": 0.9, "confidence": 0.5}, "confidence must be above 0.5"),
        ({"at_least": 0.9, "confidence": None}, "confidence must be a number, got None"),
        ({"pairwise": True, "at_least": 0.5}, 'two views, and only adapter is named. Add compared_with="base" or'),
        ({"pairwise": True, "compared_with": "base"}, "the gate has no rule. Give at_least, e.g. at_least=0.5"),
        (
            {"pairwise": True, "compared_with": "base", "max_drop": 0.1},
            "comparison already, so max_drop makes no sense",
        ),
        (
            {"pairwise": True, "compared_with": "base", "min_gain": 0.1},
            "comparison already, so min_gain makes no sense",
        ),
        ({"pairwise": True, "compared_with": "adapter", "at_least": 0.5}, "adapter is compared with itself"),
        ({"pairwise": True, "compared_with": "gpt", "at_least": 0.5}, "'gpt' is not a view. Views: base, "),
        ({"pairwise": True, "compared_with": "base", "at_least": 1.5}, "at_least=1.5 is outside what the measure can"),
    ],
)
def test_what_cannot_be_decided_is_refused_in_one_line(arguments, message):
    with pytest.raises(GateError, match=message) as caught:
        rule_from(**{"measure": "m.score", **arguments})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(arguments.get("measure", "m.score"))
