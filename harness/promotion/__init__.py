"""The promoted adapters of a recipe: evidence, policy, registry, attestation. Importing it loads nothing heavy."""

from __future__ import annotations

from harness.promotion.attestation import Statement, envelope, public_key, read_envelope, signer_from
from harness.promotion.evidence import age_from, facts, weaknesses
from harness.promotion.files import ATTESTATION, differences, digests_of, find_attestation
from harness.promotion.policy import loosened
from harness.promotion.registry import (
    DEFAULT_ALIAS,
    Move,
    Registry,
    Version,
    check_alias,
    promoted_digests,
    recipes_in,
)

__all__ = [
    "ATTESTATION",
    "DEFAULT_ALIAS",
    "Move",
    "Registry",
    "Statement",
    "Version",
    "age_from",
    "check_alias",
    "differences",
    "digests_of",
    "envelope",
    "facts",
    "find_attestation",
    "loosened",
    "promoted_digests",
    "public_key",
    "read_envelope",
    "recipes_in",
    "signer_from",
    "weaknesses",
]
