"""What code, libraries and machine a result came from, and what of it is nobody's business."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.pipeline import identity
from harness.pipeline.identity import TRAINING_LIBRARIES, code_digest, library_versions, provenance

# The digest of the code


CODE = '''\
"""What the module does."""

LIMIT = 1000


class Row:
    """A row."""

    def length(self, tokens):
        """How long it is."""
        return min(len(tokens), LIMIT)
'''


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the place of the harness; returns its module engine/rows.py."""
    package = tmp_path / "harness"
    (package / "engine").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "engine" / "rows.py").write_text(CODE)
    (package / "engine" / "other.py").write_text("X = 1\n")
    monkeypatch.setattr(identity.harness, "__file__", str(package / "__init__.py"))
    code_digest.cache_clear()
    yield package / "engine" / "rows.py"
    code_digest.cache_clear()


def digest_now(*modules: str) -> str:
    code_digest.cache_clear()
    return code_digest(*modules)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 1000\n", "# Measured in May.\nLIMIT = 1000  # tokens\n"),
        ("LIMIT = 1000\n", "LIMIT = 1_000\n\n\n\n"),
        ('"""What the module does."""\n', ""),
        ('"""What the module does."""', '"""What it does, in other words."""'),
        ('    """A row."""\n\n', ""),
        ('"""How long it is."""', '"""The length."""'),
        ("min(len(tokens), LIMIT)", "(min(len(tokens),\n            LIMIT))"),
    ],
)
def test_an_explanation_does_not_change_the_digest(code: Path, old: str, new: str) -> None:
    before = digest_now("engine/rows.py")
    assert old in CODE
    code.write_text(CODE.replace(old, new))
    assert digest_now("engine/rows.py") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 1000", "LIMIT = 1001"),
        ("min(", "max("),
        ("def length(self, tokens)", "def length(self, tokens, /)"),
        ("class Row:", "class Rows:"),
        ('        """How long it is."""\n', '        note = """How long it is."""\n'),
        ("        return", "        print()\n        return"),
    ],
)
def test_code_changes_the_digest(code: Path, old: str, new: str) -> None:
    before = digest_now("engine/rows.py")
    assert old in CODE
    code.write_text(CODE.replace(old, new))
    assert digest_now("engine/rows.py") != before


def test_a_folder_stands_for_its_modules(code: Path) -> None:
    before = digest_now("engine")
    (code.parent / "other.py").write_text("X = 2\n")
    changed = digest_now("engine")
    assert changed != before
    (code.parent / "notes.txt").write_text("not code")
    assert digest_now("engine") == changed
    (code.parent / "more.py").write_text("")
    assert digest_now("engine") not in (before, changed)


def test_the_name_of_a_module_counts(code: Path) -> None:
    before = digest_now("engine")
    code.rename(code.with_name("lines.py"))
    assert digest_now("engine") != before


# Versions


def test_versions_are_those_installed() -> None:
    versions = library_versions(["torch", "lm_eval", "no-such-library"])
    assert versions == {name: importlib.metadata.version(name) for name in ("torch", "lm_eval")}
    assert set(library_versions(TRAINING_LIBRARIES)) == {"torch", "transformers", "peft", "trl", "bitsandbytes"}


# Provenance


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr(sys, "argv", ["/home/someone/.venv/bin/pytest", *arguments])
    text: str = provenance(tmp_path, {})["command"]
    return text


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["suites", "--harness-store=s"], "pytest suites --harness-store=s"),
        (["--anthropic-api-key=sk-1", "suites"], "pytest --anthropic-api-key=*** suites"),
        (["--anthropic-api-key", "sk-1", "suites"], "pytest --anthropic-api-key *** suites"),
        (["--hub-token", "hf_1"], "pytest --hub-token ***"),
        (["-o", "db_PASSWORD=abc"], "pytest -o db_PASSWORD=***"),
        (["--client-secret=a=b"], "pytest --client-secret=***"),
        (["tests/test_token.py", "suites", "-k", "monkey"], "pytest tests/test_token.py suites -k monkey"),
    ],
)
def test_secrets_in_the_command_line_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], shown: str
) -> None:
    assert command(*arguments, monkeypatch=monkeypatch, tmp_path=tmp_path) == shown


def test_of_the_environment_only_the_workflow_is_kept(tmp_path: Path) -> None:
    environ = {
        "GITHUB_REPOSITORY": "org/repo",
        "GITHUB_SHA": "abc",
        "GITHUB_TOKEN": "ghs_secret",
        "ANTHROPIC_API_KEY": "sk-secret",
    }
    facts = provenance(tmp_path, environ)
    assert facts["github"] == {"GITHUB_REPOSITORY": "org/repo", "GITHUB_SHA": "abc"}
    assert "secret" not in str(facts)


def test_the_commit_and_whether_the_tree_is_clean(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity_options = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity_options, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert provenance(tmp_path, {})["git"] is None
    git("init", "-q")
    assert provenance(tmp_path, {})["git"] is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "First")
    commit = git("rev-parse", "HEAD")
    assert provenance(tmp_path, {})["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "file").write_text("2")
    assert provenance(tmp_path, {})["git"] == {"commit": commit, "dirty": True}


def test_the_machine_is_described(tmp_path: Path) -> None:
    machine: dict[str, Any] = provenance(tmp_path, {})["machine"]
    assert machine["cores"] >= 1
    assert machine["processor"]
    assert machine["memory_gb"] > 0.1


def test_provenance_loads_no_library() -> None:
    """Versions come from metadata: a run that needs no model must not pay for torch to name its version."""
    program = dedent(
        """
        import sys
        from pathlib import Path
        from harness.pipeline.identity import provenance
        facts = provenance(Path(), {})
        assert facts["versions"]["torch"]
        print(sorted({"torch", "transformers", "numpy", "sklearn", "anthropic"} & set(sys.modules)))
        """
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout == "[]\n"
