"""promote, rollback, registry and verify: what a user types, what comes out, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import promotable
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from promotable import gate, record, result, run

from harness.pipeline import Places

ROOT = Path(__file__).parents[3]
KEY_PAIR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEM = KEY_PAIR.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = KEY_PAIR.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

Command = Callable[..., Any]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A project with an adapter and a recorded run of it, as the current folder."""
    known = promotable.save(tmp_path)
    (known.root / "pytest.ini").write_text("[pytest]\n")
    for name in ("HARNESS_RECIPES", "HARNESS_STORE", "HARNESS_SIGNING_KEY", "HARNESS_SIGNING_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(known.root)
    record(known, run(result(known)))
    return known


@pytest.fixture
def public(tmp_path: Path) -> str:
    file = tmp_path / "promotion.pub"
    file.write_text(PUBLIC)
    return str(file)


def promote(harness: Command, *more: str) -> Any:
    return harness("promote", "latest", "--recipe", "animals", *more)


def test_a_promotion_in_words_and_as_json(places: Places, harness: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = promote(harness, "--first")
    assert (done.code, done.err) == (0, "")
    first, second, third = done.out.splitlines()
    assert first.startswith("animals: production is version 1 now (the first), by run 20")
    assert second.endswith(" in .harness/registry/animals/versions/1/adapter")
    assert third == ("the attestation is not signed: neither HARNESS_SIGNING_KEY nor HARNESS_SIGNING_KEY_FILE is set")
    monkeypatch.setenv("HARNESS_SIGNING_KEY", PEM)
    done = promote(harness)
    assert "(was version 1)" in done.out
    assert "the attestation is signed by key 56475aa75463" in done.out  # sha256 of the raw public key
    assert all(line not in done.out + done.err for line in PEM.splitlines())
    values = json.loads(promote(harness, "--json").out)
    assert (values["recipe"], values["alias"], values["version"], values["before"]) == ("animals", "production", 3, 2)
    assert values["signed_by"].startswith("56475aa75463")
    assert values["policy_changes"] == []


def test_a_refusal_has_a_line_for_each_reason(places: Places, harness: Command) -> None:
    refused = promote(harness, "--max-age", "0s")
    assert (refused.code, refused.out) == (1, "")
    assert [line.split(": ")[0] for line in refused.err.splitlines()] == ["error"] * 2
    assert "say --first if that is meant" in refused.err
    assert "0 seconds are allowed" in refused.err


def test_an_accepted_change_is_shown(places: Places, harness: Command) -> None:
    promote(harness, "--first")
    record(places, run(result(places, gate(at_least=0.4))))
    assert promote(harness).code == 1
    done = promote(harness, "--accept-policy-change", "rounder")
    change = "animals/test_accuracy/classification.accuracy: at_least=0.4 instead of 0.5"
    assert f"accepted: {change}" in done.out.splitlines()
    shown = harness("registry", "animals").out
    assert f"  accepted: {change} (rounder)" in shown.splitlines()
    assert "production is version 2 (was 1): rounder" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("promote", "latest"), "the following arguments are required: --recipe"),
        (("promote", "latest", "--recipe", "animals", "--accept-policy-change", " "), "needs a reason"),
        (("registry", "others"), "nothing of 'others' was promoted in .harness; promoted recipes: none"),
        (("rollback", "animals", "--to", "one"), "argument --to: a version is a whole number, got 'one'"),
        (("verify", "nowhere"), "nowhere: is no directory"),
    ],
)
def test_wrong_calls(places: Places, harness: Command, arguments: tuple[str, ...], complaint: str) -> None:
    found = harness(*arguments)
    assert (found.code, found.out) == (2, "")
    assert complaint in found.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("promote", "latest", "--recipe", "animals", "--max-age", "week"),
            "--max-age must be a number and s, m, h or d",
        ),
        (("promote", "latest", "--recipe", "animals", "--alias", "a/b"), "an alias is small letters"),
        (("promote", "2001", "--recipe", "animals"), "there is no run '2001'"),
        (("promote", "latest", "--recipe", "others"), "did not test this recipe; its recipes: animals"),
        (("rollback", "animals"), "nothing was promoted to production, so there is nothing to roll back"),
        (("verify", "suites"), ".harness: nothing was promoted to production"),
        (("verify", "suites", "--recipe", "others"), ".harness: nothing of others was promoted to production"),
        (("verify", "suites", "--key", "absent"), "absent: the public key cannot be read"),
    ],
)
def test_what_cannot_be_done(places: Places, harness: Command, arguments: tuple[str, ...], complaint: str) -> None:
    found = harness(*arguments)
    assert (found.code, found.out) == (1, "")
    assert complaint in found.err


def test_the_registry_of_all_and_of_one(places: Places, harness: Command) -> None:
    assert harness("registry").out == "nothing was promoted in .harness yet\n"
    assert json.loads(harness("registry", "--json").out) == {"recipes": []}
    promote(harness, "--first")
    promote(harness, "--first", "--alias", "staging")
    lines = harness("registry").out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["animals", "production"], ["animals", "staging"]]
    assert all("1 of 1 gates passed" in line and line.endswith("not signed") for line in lines)
    full = harness("registry", "animals").out
    assert "  pass  animals/test_accuracy/classification.accuracy: at least 0.500; 0.958 on 24 examples" in full
    assert "promotion  staging is version 2 (the first)" in full
    (recipe,) = json.loads(harness("registry", "animals", "--json").out)["recipes"]
    assert [one["version"] for one in recipe["live"]] == [1, 2]
    assert recipe["live"][0]["evidence"]["gates"][0]["asked"]["at_least"] == 0.5
    assert [move["counter"] for move in recipe["history"]] == [1, 2]


def test_rollback_in_words_and_as_json(places: Places, harness: Command) -> None:
    promote(harness, "--first")
    promote(harness)
    done = harness("rollback", "animals", "--reason", "slow")
    assert done.out.startswith("animals: production is version 1 again (was version 2), by run ")
    assert "production is version 1 (was 2): slow" in harness("registry", "animals").out
    values = json.loads(harness("rollback", "animals", "--to", "2", "--json").out)
    assert (values["kind"], values["version"], values["before"], values["reason"]) == ("rollback", 2, 1, "")


def test_another_store_and_what_is_promoted_is_not_garbage(
    places: Places, harness: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(places.store.rename(tmp_path / "store"))
    assert "no run is recorded there" in promote(harness).err
    assert promote(harness, "--first", "--store", store).code == 0
    assert "version 1 since" in harness("registry", "--store", store).out
    assert harness("verify", f"{store}/registry/animals/versions/1/adapter", "--store", store).code == 0
    assert "version 1 is the first production" in harness("rollback", "animals", "--store", store).err
    assert harness("registry", "--store", "nowhere").code == 2

    # No run needs either adapter any more, and both are old: only the promoted one stays.
    shutil.rmtree(Path(store) / "runs")
    promotable.keep_adapter(replace(places, store=Path(store)), b"never promoted")
    for path in (Path(store) / "adapters").rglob("*"):
        os.utime(path, (0, 0))
    lines = harness("gc", "--older-than", "1d", "--store", store).out.splitlines()
    (freed,) = [line for line in lines if line.startswith("adapter")]
    assert promotable.fingerprint_of(b"never promoted")[:8] in freed


def adapter(places: Places, version: int = 1) -> Path:
    return places.store / "registry" / "animals" / "versions" / str(version) / "adapter"


def test_verify_by_the_registry(places: Places, harness: Command, tmp_path: Path) -> None:
    promote(harness, "--first")
    copy = shutil.copytree(adapter(places), tmp_path / "copy")
    done = harness("verify", str(copy))
    assert done.code == 0
    assert ": is version 1 of animals, production since 20" in done.out
    assert json.loads(harness("verify", str(copy), "--json").out)["version"] == 1
    assert harness("verify", str(copy), "--alias", "staging").code == 1

    promotable.keep_adapter(places, b"better")
    record(places, run(result(places, weights=b"better")))
    promote(harness)
    old = harness("verify", str(copy))
    assert old.code == 1
    assert "adapter_model.safetensors has sha256" in old.err
    assert ": is version 1 of animals, and production is version 2" in old.err
    (adapter(places, 2) / "adapter_model.bin").write_bytes(b"x")
    assert "adapter_model.bin was not promoted" in harness("verify", str(adapter(places, 2))).err


def test_verify_among_several_recipes(places: Places, harness: Command, tmp_path: Path) -> None:
    promote(harness, "--first")
    other = places.store / "registry" / "plants"
    shutil.copytree(places.store / "registry" / "animals", other)
    assert harness("verify", str(adapter(places))).out.split(", ")[0].endswith("of animals")
    assert harness("verify", str(adapter(places)), "--recipe", "plants").code == 0
    stranger = shutil.copytree(adapter(places), tmp_path / "stranger")
    (stranger / "manifest.json").write_text("{}")
    found = harness("verify", str(stranger))
    assert found.code == 1
    assert "is not the production adapter of any of: animals, plants" in found.err


def test_verify_by_the_attestation_alone(
    places: Places, harness: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public: str
) -> None:
    monkeypatch.setenv("HARNESS_SIGNING_KEY", PEM)
    promote(harness, "--first")
    server = tmp_path / "server"
    shutil.copytree(adapter(places).parent, server / "1")
    shutil.rmtree(places.store)
    monkeypatch.chdir(server)
    done = harness("verify", "1/adapter", "--recipe", "animals", "--key", public)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1/adapter: is version 1 of animals, promoted to production, as signed, by run ")
    shutil.move(server / "1" / "attestation.json", server / "1" / "adapter" / "attestation.json")
    assert harness("verify", "1/adapter", "--key", public).code == 0
    found = harness("verify", "1/adapter", "--recipe", "plants", "--alias", "staging", "--key", public)
    assert found.code == 1
    assert "is about recipe animals, not plants" in found.err
    assert "was promoted to production, not staging" in found.err
    weights = server / "1" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(b"weightz")
    assert "adapter_model.safetensors has sha256" in harness("verify", "1/adapter", "--key", public).err
    (server / "1" / "adapter" / "attestation.json").unlink()
    assert "there is no attestation.json in it or beside it" in harness("verify", "1/adapter", "--key", public).err


def test_verify_refuses_what_is_not_signed(places: Places, harness: Command, public: str) -> None:
    promote(harness, "--first")
    found = harness("verify", str(adapter(places)), "--key", public)
    assert found.code == 1
    assert "attestation.json: is not signed; set HARNESS_SIGNING_KEY or HARNESS_SIGNING_KEY_FILE" in found.err


@pytest.mark.parametrize("signed", [False, True])
def test_verify_imports_next_to_nothing(
    places: Places, harness: Command, monkeypatch: pytest.MonkeyPatch, public: str, signed: bool
) -> None:
    if signed:
        monkeypatch.setenv("HARNESS_SIGNING_KEY", PEM)
    promote(harness, "--first")
    options = ["--key", public] if signed else []
    program = (
        "import sys; from harness.cli import main; code = main(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules})); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", str(adapter(places)), *options],
        cwd=places.root,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"torch", "numpy", "scipy", "pydantic", "yaml", "transformers", "filelock", "pytest"})
    assert ("cryptography" in loaded) is signed
