"""The project that the commands see is the one that pytest sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.project import FOLDERS, Project, find_project
from harness.cli.usage import CommandError
from harness.pipeline import Places
from harness.pytest_plugin.options import folder_of

pytest_plugins = ["pytester"]

# junit_suite_name is an ini key of pytest itself that holds a text.
LAYOUTS = {
    "pytest.ini": {"pytest.ini": "[pytest]\njunit_suite_name = here  # said so\n"},
    "empty pytest.ini": {"pytest.ini": "", "tox.ini": "[pytest]\njunit_suite_name = no\n"},
    ".pytest.ini": {".pytest.ini": "[pytest]\njunit_suite_name = here\n"},
    "pytest.toml": {"pytest.toml": "[pytest]\njunit_suite_name = 'here'\n", "pytest.ini": "[pytest]\n"},
    "pyproject, ini options": {"pyproject.toml": "[tool.pytest.ini_options]\njunit_suite_name = 'here'\n"},
    "pyproject, native": {"pyproject.toml": "[tool.pytest]\njunit_suite_name = 'here'\n"},
    "pyproject, no table": {"pyproject.toml": "[project]\nname = 'x'\nversion = '1'\n"},
    "pyproject, empty ini options": {"pyproject.toml": "[tool.pytest.ini_options]\n"},
    "tox.ini": {"tox.ini": "[tox]\n[pytest]\njunit_suite_name = here\n"},
    "tox.ini of tox alone": {"tox.ini": "[tox]\n", "setup.cfg": "[tool:pytest]\njunit_suite_name = here\n"},
    "setup.cfg": {"setup.cfg": "[metadata]\nname = x\n[tool:pytest]\njunit_suite_name =\n    here\n"},
    "setup.py": {"setup.py": ""},
    "above": {"../pytest.ini": "[pytest]\njunit_suite_name = above\n", "setup.py": ""},
    "above a pyproject without a table": {
        "../pytest.ini": "[pytest]\njunit_suite_name = above\n",
        "pyproject.toml": "[project]\nname = 'x'\nversion = '1'\n",
    },
    "a pyproject without a table above": {"../pyproject.toml": "[tool.other]\n"},
    "nothing": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_pytest_finds_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    folder = pytester.mkdir("inner")
    monkeypatch.chdir(folder)
    for name, text in LAYOUTS[layout].items():
        (folder / name).write_text(text)
    config = pytester.parseconfig()
    project = find_project(folder)
    assert project.root == config.rootpath
    assert project.ini.get("junit_suite_name", "pytest") == config.getini("junit_suite_name")


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("chosen", ["default", "ini", "environment", "both", "absolute"])
def test_folders_as_the_plugin_finds_them(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
    chosen: str,
) -> None:
    key = FOLDERS[name][0]
    monkeypatch.delenv(f"HARNESS_{key.upper()}", raising=False)
    if chosen in ("ini", "both"):
        pytester.makeini(f"[pytest]\nharness_{key} = from/ini\n")
    else:
        pytester.makeini("[pytest]\n")
    if chosen in ("environment", "both"):
        monkeypatch.setenv(f"HARNESS_{key.upper()}", "from/environment")
    if chosen == "absolute":
        monkeypatch.setenv(f"HARNESS_{key.upper()}", str(pytester.path / "absolute"))
    installed = request.config.pluginmanager.has_plugin("adapter-harness")
    config = pytester.parseconfig(*([] if installed else ["-p", "harness.pytest_plugin"]))
    places = Places.below(config.rootpath, **{name: folder_of(config, key)})
    assert find_project(pytester.path).folder(name) == getattr(places, name)


def test_a_folder_in_the_home() -> None:
    project = Project(Path("/project"), ini={"harness_store": "~/adapters"})
    assert project.folder("store", {}) == Path.home() / "adapters"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "no section = 1\n"),
        ("pyproject.toml", "[tool\n"),
        ("pyproject.toml", "\xff"),
        ("tox.ini", "[a\n"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="latin-1")
    with pytest.raises(CommandError, match=r"cannot be read as configuration \(.+\); correct it") as caught:
        find_project(tmp_path)
    assert str(caught.value).startswith(f"{file}: ")


def test_a_folder_that_is_not_a_text(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\nharness_recipes = ['a', 'b']\n")
    with pytest.raises(CommandError) as caught:
        find_project(tmp_path).folder("recipes", {})
    assert str(caught.value) == (
        f"{tmp_path / 'pyproject.toml'}: harness_recipes must be one folder, got ['a', 'b']; write it as a text"
    )


def test_recipes_that_are_a_file(tmp_path: Path) -> None:
    (tmp_path / "recipes").write_text("")
    project = Project(tmp_path, ini={"harness_recipes": "recipes"})
    with pytest.raises(CommandError, match="is not a folder"):
        project.recipes_folder()
