"""`harness push` up to the point where it would use the network; tests/pipeline/test_push.py has the rest."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import promoted
import pytest
import report_runs

from harness.report import card_md

Harness = Callable[..., tuple[int, str, str]]
REPO = "someone/invoices"
LATER = dataclasses.replace(report_runs.run(), run_id="20261124-090000-7")
OTHER = dataclasses.replace(report_runs.run(report_runs.recipe(adapter_digest="be" * 32)), run_id="20261125-090000-7")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_says_what_would_be_sent(project: Path, harness: Harness) -> None:
    store = project / ".harness"
    run = promoted.record(store)
    move = promoted.promote(store, run)
    code, out, err = harness("push", "latest", REPO, "--license", "mit", "--dry-run")
    assert (code, err) == (0, "")
    *lines, last = out.splitlines()
    attestation = (store / "registry" / "invoices" / "versions" / "1" / "attestation.json").read_bytes()
    card = card_md(run, "invoices", license="mit", repo=REPO).encode()
    files = {**promoted.FILES, "README.md": card, "attestation.json": attestation}
    assert [line.split() for line in lines] == [
        [promoted.digest_of(content)[:12], f"{len(content):,}", name] for name, content in sorted(files.items())
    ]
    total = sum(map(len, files.values()))
    assert last == f"would go to {REPO}: invoices version {move.version} (production), 6 files, {total:,} bytes"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_adapter_that_is_not_promoted_is_refused(project: Path, harness: Harness, more: tuple[str, ...]) -> None:
    promoted.record(project / ".harness")
    assert harness("push", "latest", REPO, *more) == (
        1,
        "",
        "error: invoices: the adapter of run 20261123-140712-a4f1 is not promoted; promote it with `harness promote "
        "20261123-140712-a4f1 --recipe invoices`\n",
    )


@pytest.mark.usefixtures("no_network")
def test_a_later_run_of_the_promoted_adapter_is_not_what_was_attested(project: Path, harness: Harness) -> None:
    store = project / ".harness"
    promoted.promote(store, promoted.record(store))
    promoted.record(store, LATER)
    code, out, err = harness("push", "latest", REPO)
    assert (code, out) == (1, "")
    assert "push it with `harness push 20261123-140712-a4f1 REPO --recipe invoices`" in err


@pytest.mark.usefixtures("no_network")
def test_only_what_is_live(project: Path, harness: Harness) -> None:
    store = project / ".harness"
    first, second = promoted.record(store), promoted.record(store, OTHER)
    promoted.promote(store, first)
    promoted.promote(store, second)
    code, out, err = harness("push", first.run_id, REPO, "--dry-run")
    assert (code, out) == (1, "")
    assert "is not live any more" in err
    assert "`harness rollback invoices --alias production --to 1`" in err
    assert harness("push", second.run_id, REPO, "--dry-run")[0] == 0
    promoted.roll_back(store, 1)
    assert harness("push", first.run_id, REPO, "--dry-run")[0] == 0
    assert harness("push", second.run_id, REPO, "--dry-run")[0] == 1


@pytest.mark.usefixtures("no_network")
def test_a_promoted_file_that_was_changed_is_not_sent(project: Path, harness: Harness) -> None:
    store = project / ".harness"
    promoted.promote(store, promoted.record(store))
    weights = store / "registry/invoices/versions/1/adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    code, out, err = harness("push", "latest", REPO, "--dry-run")
    assert (code, out) == (1, "")
    assert "adapter_model.safetensors has sha256" in err


@pytest.mark.usefixtures("no_network")
def test_a_readme_that_was_promoted_is_not_replaced(project: Path, harness: Harness) -> None:
    store = project / ".harness"
    promoted.promote(store, promoted.record(store), files={"README.md": b"mine"})
    code, _, err = harness("push", "latest", REPO, "--dry-run")
    assert code == 1
    assert "was promoted with a file README.md of its own" in err


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("repo", ["a/b/c", "a b", "-x/y", "x--y", "../x", ""])
def test_what_is_no_repository(project: Path, harness: Harness, repo: str) -> None:
    promoted.record(project / ".harness")
    code, out, err = harness("push", "latest", "--dry-run", "--", repo)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: REPO is a name such as someone/tickets: ")


def test_offline_is_said(project: Path, harness: Harness) -> None:
    """tests/conftest.py sets HF_HUB_OFFLINE."""
    store = project / ".harness"
    promoted.promote(store, promoted.record(store))
    code, _, err = harness("push", "latest", REPO)
    assert (code, err) == (1, f"error: {REPO}: HF_HUB_OFFLINE is set; unset it to upload\n")
