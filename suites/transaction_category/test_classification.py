"""Does the adapter file transactions as the company does, better than a prompt can, for every category?

Thresholds are for the embedded 135M model. An 8B model should reach macro-F1 0.95 and 0.85 for every category.
"""

import pytest

pytestmark = pytest.mark.recipes("transaction_category")


def test_macro_f1(classification, gate):
    gate(classification.macro_f1, at_least=0.70)


def test_beats_prompting(classification, gate):
    gate(classification.macro_f1, compared_with="base", min_gain=0.20)
    gate(classification.macro_f1, compared_with="prompted_base", min_gain=0.10)


def test_every_category(classification, gate):
    for f1 in classification.f1_by_label.values():
        gate(f1, at_least=0.45)
