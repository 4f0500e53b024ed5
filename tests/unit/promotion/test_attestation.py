"""Statements, envelopes and keys. The vector is the published one; signatures are checked by `cryptography` itself."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from harness.errors import PromotionError
from harness.promotion.attestation import (
    KEY,
    KEY_FILE,
    PREDICATE_TYPE,
    envelope,
    pae,
    public_key,
    read_envelope,
    signer_from,
)

SEED = bytes(range(32))
KEY_PAIR = Ed25519PrivateKey.from_private_bytes(SEED)
PEM = KEY_PAIR.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = KEY_PAIR.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
FILES = {"adapter_model.safetensors": "ab" * 32, "adapter_config.json": "cd" * 32}


def test_pae_of_the_published_example() -> None:
    """Test vector of DSSE's protocol description."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize(
    "key",
    [PEM, PEM.replace("\n", "\\n"), f"\n{PEM}  ", base64.b64encode(SEED).decode()],
    ids=["pem", "pem on one line", "pem with blanks", "seed"],
)
def test_a_signed_statement_is_an_in_toto_statement_that_the_key_verifies(key: str, tmp_path: Path) -> None:
    signer = signer_from({KEY: key})
    assert signer is not None
    text = envelope(FILES, {"recipe": "animals"}, signer)
    form = json.loads(text)
    payload = base64.b64decode(form["payload"])
    # Checked with the library and the encoding written out, not with the code under test.
    signed = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    KEY_PAIR.public_key().verify(base64.b64decode(form["signatures"][0]["sig"]), signed)
    assert json.loads(payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": FILES[name]}} for name in sorted(FILES)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"recipe": "animals"},
    }
    file = tmp_path / "key.pub"
    file.write_text(PUBLIC)
    statement = read_envelope(text, "here", public_key(file))
    assert (statement.files, statement.predicate) == (FILES, {"recipe": "animals"})
    assert statement.keyids == (signer.keyid,)
    file.write_text(base64.b64encode(KEY_PAIR.public_key().public_bytes_raw()).decode())
    assert read_envelope(text, "here", public_key(file)).files == FILES


def test_a_key_file_and_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(PEM)
    signer = signer_from({KEY_FILE: str(file), KEY: ""})
    assert signer is not None
    assert str(SEED[:4]) not in repr(signer)
    assert signer_from({}) is None
    assert json.loads(envelope(FILES, {}, None))["signatures"] == []


def changed(text: str, change: Any) -> str:
    form = json.loads(text)
    statement = json.loads(base64.b64decode(form["payload"]))
    change(form, statement)
    if form["payload"] is not None:
        form["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(form)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f, s: s["predicate"].update(recipe="other"), "has no signature by this key"),
        (lambda f, s: s["subject"][0]["digest"].update(sha256="00" * 32), "has no signature by this key"),
        (lambda f, s: f.update(signatures=[]), f"is not signed; set {KEY} or {KEY_FILE} when promoting"),
        (lambda f, s: f["signatures"][0].update(sig="AAAA"), "has no signature by this key"),
        (lambda f, s: f["signatures"][0].update(sig="%%%"), "has no signature by this key"),
        (lambda f, s: f.update(payloadType="text/plain"), "is no attestation"),
        (lambda f, s: f.update(payload=None), "is no attestation"),
        (lambda f, s: f.update(signatures={"keyid": 1}), "is no attestation"),
    ],
)
def test_what_the_key_did_not_sign_is_refused(change: Any, complaint: str) -> None:
    text = envelope(FILES, {"recipe": "animals"}, signer_from({KEY: PEM}))
    with pytest.raises(PromotionError, match=f"^here: {complaint}"):
        read_envelope(changed(text, change), "here", KEY_PAIR.public_key())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f, s: s.update(predicateType="https://slsa.dev/provenance/v1"), "is not about a promotion"),
        (lambda f, s: s.update(_type="https://in-toto.io/Statement/v0.1"), "is not about a promotion"),
        (lambda f, s: s.update(subject=[]), "names no file, or one twice"),
        (lambda f, s: s["subject"].append(s["subject"][0]), "names no file, or one twice"),
        (lambda f, s: s.pop("predicate"), "does not hold an in-toto statement"),
    ],
)
def test_another_statement_is_refused(change: Any, complaint: str) -> None:
    with pytest.raises(PromotionError, match=f"^here: {complaint}"):
        read_envelope(changed(envelope(FILES, {}, None), change), "here")


def test_another_key_and_no_json_are_refused() -> None:
    text = envelope(FILES, {}, signer_from({KEY: PEM}))
    with pytest.raises(PromotionError, match="has no signature by this key: changed, or signed by 56475aa7"):
        read_envelope(text, "here", Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())
    for wrong in ("", "{", "[]", "null", "[" * 100_000):
        with pytest.raises(PromotionError, match="is no attestation as `harness promote` writes it"):
            read_envelope(wrong, "here")


RSA = generate_private_key(65_537, 2_048)
WRONG_KEYS = {
    "no key": ("secret-words", "is neither PEM nor base64 of 32 bytes"),
    "short seed": (base64.b64encode(SEED[:16]).decode(), "is neither PEM nor base64 of 32 bytes"),
    "cut": (PEM[: len(PEM) // 2], "is no private key in PEM form"),
    "public": (PUBLIC, "is no private key in PEM form"),
    "rsa": (
        RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "is a key of another kind, and Ed25519 is needed",
    ),
    "password": (
        KEY_PAIR.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")).decode(),
        "is encrypted with a password",
    ),
}


@pytest.mark.parametrize("name", WRONG_KEYS)
@pytest.mark.parametrize("place", [KEY, KEY_FILE])
def test_a_key_that_cannot_be_used_is_not_shown(name: str, place: str, tmp_path: Path) -> None:
    key, complaint = WRONG_KEYS[name]
    value = key
    if place == KEY_FILE:
        (tmp_path / "key").write_text(key)
        value = str(tmp_path / "key")
    with pytest.raises(PromotionError, match=complaint) as caught:
        signer_from({place: value})
    assert str(caught.value).startswith(place)
    body = "".join(line for line in key.splitlines() if not line.startswith("-----"))[:40]
    assert body not in str(caught.value)
    assert caught.value.__cause__ is None


def test_key_and_file_together_and_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match=f"{KEY}: is set, and so is {KEY_FILE}. Unset one of them."):
        signer_from({KEY: PEM, KEY_FILE: "key"})
    with pytest.raises(PromotionError, match="the key cannot be read"):
        signer_from({KEY_FILE: str(tmp_path / "absent")})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (PEM, "is a private key; who verifies needs only the public one"),
        ("none", "is neither PEM nor base64 of 32 bytes"),
        (PUBLIC[:60], "is no public key in PEM form"),
        (
            RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            "is a key of another kind",
        ),
    ],
)
def test_a_public_key_that_cannot_be_used(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(text)
    with pytest.raises(PromotionError, match=complaint):
        public_key(file)
    with pytest.raises(PromotionError, match="the public key cannot be read"):
        public_key(tmp_path / "absent")


def test_a_traceback_with_local_variables_does_not_show_the_key(tmp_path: Path) -> None:
    """The seed is too short, so that signer_from raises while it holds it."""
    secret = base64.b64encode(b"thirty-one bytes of a secret...").decode()
    test = tmp_path / "test_it.py"
    test.write_text(
        "import os\nfrom harness.promotion import signer_from\n\ndef test_it():\n"
        f"    signer_from({{'{KEY}': os.environ['S']}})\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            str(test),
            "--showlocals",
            "--tb=long",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:adapter-harness",
        ],
        env={"S": secret, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is neither PEM nor base64" in done.stdout
    assert "where      = 'HARNESS_SIGNING_KEY'" in done.stdout  # locals were shown
    assert secret not in done.stdout + done.stderr
