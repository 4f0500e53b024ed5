"""What was promoted and why, as an in-toto statement in a DSSE envelope, signed with Ed25519 where there is a key.

Formats: https://github.com/in-toto/attestation/tree/main/spec/v1 and https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import PromotionError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "KEY",
    "KEY_FILE",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "Signer",
    "Statement",
    "envelope",
    "pae",
    "public_key",
    "read_envelope",
    "signer_from",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:adapter-harness:promotion:v1"
KEY = "HARNESS_SIGNING_KEY"
KEY_FILE = "HARNESS_SIGNING_KEY_FILE"

_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_SEED = 32  # bytes
_HOW_TO = "Make one with `openssl genpkey -algorithm ed25519 -out promotion.key`."


@dataclass(frozen=True, slots=True)
class Statement:
    """files: name -> sha256 of every file of the adapter. predicate: the evidence. keyids: of its signatures."""

    files: Mapping[str, str]
    predicate: Mapping[str, Any]
    keyids: tuple[str, ...] = ()


class Signer:
    """Signs with a key that no representation of the object shows."""

    __slots__ = ("_key", "keyid")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.keyid = _keyid(key.public_key())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def signer_from(environ: Mapping[str, str]) -> Signer | None:
    """The signer that HARNESS_SIGNING_KEY (PEM, or a base64 seed of 32 bytes) or HARNESS_SIGNING_KEY_FILE configures.

    None where neither is set, or both are empty. Raises PromotionError, without a word of the key, for one that
    cannot be used.
    """
    where, key, problem = _configured_key(environ)
    # A traceback that shows local variables must not show the environment.
    del environ
    if problem is not None:
        raise PromotionError(f"{where}: {problem}")
    return None if key is None else Signer(key)


def _configured_key(environ: Mapping[str, str]) -> tuple[str, Ed25519PrivateKey | None, str | None]:
    """Where a key was looked for, the key, and what is wrong with it; never raises, as its locals hold the key."""
    text, file = environ.get(KEY, ""), environ.get(KEY_FILE, "")
    if text and file:
        return KEY, None, f"is set, and so is {KEY_FILE}. Unset one of them."
    if not text and not file:
        return "", None, None
    where = KEY if text else f"{KEY_FILE}={file}"
    if file:
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            return where, None, f"the key cannot be read ({why}). Name a file with an Ed25519 private key."
    key, problem = _private_key(text)
    return where, key, problem


def _private_key(text: str) -> tuple[Ed25519PrivateKey | None, str | None]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = text.strip()
    if not text.startswith("-----BEGIN"):
        seed = _base64(text)
        if seed is None or len(seed) != _SEED:
            return None, f"is neither PEM nor base64 of {_SEED} bytes. {_HOW_TO}"
        return Ed25519PrivateKey.from_private_bytes(seed), None
    try:
        # Many secret stores hand a text of several lines on with \n for its line breaks.
        key = load_pem_private_key(text.replace("\\n", "\n").encode(), password=None)
    except TypeError:
        return None, "is encrypted with a password. Use a key without one, kept as a secret."
    except (ValueError, UnsupportedAlgorithm):
        return None, f"is no private key in PEM form. {_HOW_TO}"
    if not isinstance(key, Ed25519PrivateKey):
        return None, f"is a key of another kind, and Ed25519 is needed. {_HOW_TO}"
    return key, None


def public_key(file: Path) -> Ed25519PublicKey:
    """The Ed25519 public key in `file`, in PEM form or as base64 of 32 bytes. Raises PromotionError for another."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    how = "Write it with `openssl pkey -in promotion.key -pubout -out promotion.pub`."
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise PromotionError(f"{file}: the public key cannot be read ({why}). {how}") from None
    if not text.startswith("-----BEGIN"):
        raw = _base64(text)
        if raw is None or len(raw) != _SEED:
            raise PromotionError(f"{file}: is neither PEM nor base64 of {_SEED} bytes. {how}")
        return Ed25519PublicKey.from_public_bytes(raw)
    if "PRIVATE KEY" in text.partition("\n")[0]:
        del text
        raise PromotionError(f"{file}: is a private key; who verifies needs only the public one. {how}")
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise PromotionError(f"{file}: is no public key in PEM form. {how}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise PromotionError(f"{file}: is a key of another kind, and Ed25519 is needed. {how}")
    return key


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding, version 1."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(files: Mapping[str, str], predicate: Mapping[str, Any], signer: Signer | None) -> str:
    """A statement on these files as a DSSE envelope in JSON; without a signer its list of signatures is empty."""
    statement = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    payload = json.dumps(statement, allow_nan=False).encode()
    signatures = []
    if signer is not None:
        sig = base64.b64encode(signer.sign(pae(PAYLOAD_TYPE, payload))).decode()
        signatures.append({"keyid": signer.keyid, "sig": sig})
    form = {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": signatures}
    return json.dumps(form, indent=2) + "\n"


def read_envelope(text: str, where: str, key: Ed25519PublicKey | None = None) -> Statement:
    """The statement in an envelope that `envelope` wrote; with a key only if that key signed it.

    where: the file, for messages. Raises PromotionError for a signature that is missing or wrong, and for anything
    that is no such envelope.
    """
    try:
        form = json.loads(text)
        payload_type, signatures = form["payloadType"], form["signatures"]
        payload = _base64(form["payload"])
        keyids = tuple(str(signature["keyid"]) for signature in signatures)
        signed = [_base64(signature["sig"]) for signature in signatures]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PromotionError(f"{where}: is no attestation as `harness promote` writes it") from None
    if payload_type != PAYLOAD_TYPE or payload is None:
        raise PromotionError(f"{where}: is no attestation as `harness promote` writes it")
    if key is not None:
        if not signed:
            raise PromotionError(f"{where}: is not signed; set {KEY} or {KEY_FILE} when promoting")
        if not any(_verifies(key, sig, pae(payload_type, payload)) for sig in signed):
            raise PromotionError(f"{where}: has no signature by this key: changed, or signed by {', '.join(keyids)}")
    try:
        statement = json.loads(payload)
        kind = (statement["_type"], statement["predicateType"])
        subjects = [(subject["name"], subject["digest"]["sha256"]) for subject in statement["subject"]]
        predicate = dict(statement["predicate"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PromotionError(f"{where}: does not hold an in-toto statement") from None
    if kind != (_STATEMENT_TYPE, PREDICATE_TYPE):
        raise PromotionError(f"{where}: is not about a promotion: {kind[0]}, {kind[1]}")
    files = dict(subjects)
    if not files or len(files) != len(subjects):
        raise PromotionError(f"{where}: names no file, or one twice")
    return Statement(files, predicate, keyids)


def _verifies(key: Ed25519PublicKey, signature: bytes | None, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        return False
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _keyid(key: Ed25519PublicKey) -> str:
    """sha256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        return None
