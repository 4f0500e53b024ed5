"""The rooms import downwards only, and what must be light stays light."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sysconfig.get_path("scripts")) / "lint-imports"

# Each takes long to import, or needs what a machine that only collects tests does not have.
HEAVY = (
    "anthropic",
    "bitsandbytes",
    "datasets",
    "lm_eval",
    "mlflow",
    "numpy",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "trl",
    "wandb",
)


def check_imports(root: Path) -> tuple[int, str]:
    """lint-imports over the package in root: exit code, and its output without line breaks."""
    done = subprocess.run(
        [str(LINT_IMPORTS), "--no-cache", "--no-logo"], cwd=root, capture_output=True, text=True, timeout=300
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to break."""
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_rooms_keep_the_contracts() -> None:
    code, output = check_imports(ROOT)
    assert code == 0, output
    assert "Contracts: 3 kept, 0 broken." in output


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("measures", "import harness.engine", "harness.measures is not allowed to import harness.engine"),
        ("gates", "from harness.store import Store", "harness.gates is not allowed to import harness.store"),
        ("report", "import harness.pipeline", "harness.report is not allowed to import harness.pipeline"),
        ("statistics", "import harness.gates", "harness.statistics is not allowed to import harness.gates"),
        ("records", "import harness.data", "harness.records is not allowed to import harness.data"),
        ("errors", "import harness.records", "harness.errors is not allowed to import harness.records"),
        ("pipeline", "import harness.cli", "harness.pipeline is not allowed to import harness.cli"),
        ("cli", "import harness.pytest_plugin", "harness.cli is not allowed to import harness.pytest_plugin"),
        ("gates", "import pytest", "harness is not allowed to import pytest: - harness.gates -> pytest"),
        ("pipeline", "import torch", "harness is not allowed to import torch: - harness.pipeline -> torch"),
        (
            "data",
            "def f():\n    import trl",
            "harness is not allowed to import trl: - harness.data -> trl",
        ),
    ],
)
def test_a_forbidden_import_is_found(package: Path, module: str, line: str, complaint: str) -> None:
    file = package / "harness" / f"{module}.py"
    if not file.exists():
        file = package / "harness" / module / "__init__.py"
    with file.open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")

    code, output = check_imports(package)

    assert code == 1, output
    assert complaint in output
    assert "Contracts: 2 kept, 1 broken." in output


def test_a_new_module_needs_a_place(package: Path) -> None:
    (package / "harness" / "attic.py").write_text("", encoding="utf-8")

    code, output = check_imports(package)

    assert code == 1, output
    assert "The following modules are not listed as layers: - harness.attic" in output


@pytest.mark.parametrize(
    "module",
    [
        "harness.cli",
        "harness.data",
        "harness.gates",
        "harness.measures",
        "harness.pipeline",
        "harness.pipeline.promoting",
        "harness.promotion",
        "harness.pytest_plugin",
        "harness.recipes",
        "harness.report",
        "harness.store",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    loaded = set(json.loads(done.stdout))

    assert module in loaded
    assert loaded.isdisjoint(HEAVY), f"{module} loads {sorted(loaded.intersection(HEAVY))}"
