"""`harness push` against a hub on the loopback interface, in processes of their own: the library reads the hub's
address when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import promoted
import pytest
from hub_server import TOKEN, Hub, hub
from huggingface_hub import ModelCard

from harness.promotion import differences

REPO = "someone/invoices"
ADDRESS = f"{REPO}/commit/{'0' * 40}"


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as state:
        yield state


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a run whose adapter is promoted."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    store = root / ".harness"
    promoted.promote(store, promoted.record(store))
    return root


def push(project: Path, server: Hub, *options: str, **environ: str) -> tuple[int, str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE"))}
    home = {"HF_HOME": str(project / "hf"), "HF_ENDPOINT": server.address, "HF_TOKEN": TOKEN}
    # Without Xet, whose own storage protocol the loopback hub does not speak: large files go by git-lfs.
    quiet = {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness.cli", "push", "latest", REPO, *options],
        cwd=project,
        env={**kept, **home, **quiet, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def test_everything_arrives_in_one_commit(project: Path, server: Hub, tmp_path: Path) -> None:
    code, out, err = push(project, server, "--license", "apache-2.0", "--private")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith(f" bytes: {server.address}/{ADDRESS}")
    repo = server.repos[REPO]
    assert repo["private"] is True
    assert repo["messages"] == ["invoices: version 1, by run 20261123-140712-a4f1"]
    files = repo["branches"]["main"]
    assert set(files) == {*promoted.FILES, "README.md", "attestation.json"}
    assert {name: files[name] for name in promoted.FILES} == promoted.FILES
    assert promoted.payload(files["attestation.json"])["predicate"]["adapter"]["digest"] == "ad" * 32
    card = ModelCard(files["README.md"].decode(), ignore_metadata_errors=False)
    assert (card.data.license, card.data.eval_results[0].metric_value) == ("apache-2.0", 0.912)
    assert f'PeftModel.from_pretrained(base, "{REPO}")' in card.text
    # Downloaded, it is the promoted adapter: neither card nor attestation changes that.
    for name, content in files.items():
        (tmp_path / "downloaded").mkdir(exist_ok=True)
        (tmp_path / "downloaded" / name).write_bytes(content)
    subjects = promoted.payload(files["attestation.json"])["subject"]
    assert differences(tmp_path / "downloaded", {s["name"]: s["digest"]["sha256"] for s in subjects}) == ()


def test_a_branch_of_its_own_and_a_second_time(project: Path, server: Hub) -> None:
    assert push(project, server)[0] == 0
    assert server.repos[REPO]["private"] is False
    for _ in range(2):
        code, _, err = push(project, server, "--revision", "v1", "--license", "mit")
        assert (code, err) == (0, "")
    branches = server.repos[REPO]["branches"]
    assert set(branches) == {"main", "v1"}
    assert b"license: mit" in branches["v1"]["README.md"]
    assert b"license: mit" not in branches["main"]["README.md"]


def test_a_dry_run_asks_the_hub_nothing(project: Path, server: Hub) -> None:
    code, out, _ = push(project, server, "--dry-run")
    assert (code, server.requests) == (0, [])
    assert out.splitlines()[-1].startswith(f"would go to {REPO}: ")


@pytest.mark.parametrize("token", ["", "hf_wrong", "hf_brok\x07en"])
def test_a_token_that_does_not_do(project: Path, server: Hub, token: str) -> None:
    code, _, err = push(project, server, HF_TOKEN=token)
    assert (code, err.count("\n"), server.repos) == (1, 1, {})
    assert err.startswith(f"error: {REPO}: ")
    assert "hf_" not in err
    if token != "hf_brok\x07en":
        assert "401" in err
        assert err.endswith("; log in with `hf auth login`, or set HF_TOKEN to a token that may write\n")


@pytest.mark.parametrize(("part", "status"), [("/create", 403), ("/preupload/", 404), ("/commit/", 409)])
def test_a_hub_that_refuses(project: Path, server: Hub, part: str, status: int) -> None:
    server.refuse[part] = status
    code, _, err = push(project, server)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"error: {REPO}: ")
    assert str(status) in err
    assert not any(server.repos.get(REPO, {}).get("branches", {}).get("main", {}))


def test_a_hub_that_is_not_there(project: Path) -> None:
    with hub() as gone:
        pass
    code, _, err = push(project, gone)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"error: {REPO}: nothing was uploaded (")


def test_a_card_that_the_hub_does_not_take(project: Path, server: Hub) -> None:
    code, _, err = push(project, server, "--license", "wtf")
    assert code == 1
    assert err == (
        f'error: {REPO}: nothing was uploaded (Invalid metadata in README.md. - "license" must be one of '
        "[apache-2.0, mit])\n"
    )
    assert server.repos[REPO]["branches"] == {"main": {}}
