"""The libraries' arguments as read from source are those that importing the libraries shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipes import arguments
from harness.recipes.arguments import BLOCKS, arguments_of, class_title
from harness.recipes.blocks import allowed_arguments
from harness.recipes.rules import CHOICES, DEFAULTS, RANGES, RENAMED

IMPORTED = """
import dataclasses, inspect, json
from transformers import BitsAndBytesConfig
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames
from peft import LoraConfig
from trl import SFTConfig

parameters = list(inspect.signature(BitsAndBytesConfig.__init__).parameters)
print(json.dumps({
    "quantization": [name for name in parameters if name not in ("self", "kwargs")],
    "lora": [f.name for f in dataclasses.fields(LoraConfig) if f.init and not f.name.startswith("_")],
    "training": [f.name for f in dataclasses.fields(SFTConfig) if f.init and not f.name.startswith("_")],
    "lr_scheduler_type": [member.value for member in SchedulerType],
    "optim": [member.value for member in OptimizerNames],
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    # In a process of its own: the libraries bring torch along, which no other test here may load.
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_names_are_exactly_those_of_the_class(block: arguments.Block, imported: dict[str, list[str]]) -> None:
    assert set(arguments_of(block)) == set(imported[block])


@pytest.mark.parametrize("name", ["lr_scheduler_type", "optim"])
def test_choices_are_the_members_of_the_enumeration(name: str, imported: dict[str, list[str]]) -> None:
    # An enumeration lists an alias once, and so do both sides here.
    assert set(arguments_of("training")[name].choices) == set(imported[name])


def test_simple_annotations_become_kinds() -> None:
    lora, training = arguments_of("lora"), arguments_of("training")
    assert lora["r"].kinds == {"int"}
    assert lora["lora_dropout"].kinds == {"float"}
    assert lora["target_modules"].kinds == {"list", "text", "null"}
    assert lora["target_modules"].items == "text"
    assert lora["bias"].choices == ("none", "all", "lora_only")
    assert lora["rank_pattern"].kinds == {"mapping", "null"}
    assert lora["eva_config"].takes_object
    assert not lora["loftq_config"].takes_object  # LoftQConfig or dict
    assert training["learning_rate"].kinds == {"float"}
    assert training["max_length"].kinds == {"int", "null"}
    assert training["loss_type"].choices[0] == "nll"
    assert training["pad_token"].deprecated
    assert not training["gradient_checkpointing"].deprecated  # trl defines it anew
    assert arguments_of("quantization")["load_in_4bit"].kinds == {"bool"}


def test_tables_name_only_keys_that_exist() -> None:
    for block in BLOCKS:
        allowed = allowed_arguments(block)
        for table in (DEFAULTS, RANGES, CHOICES):
            assert set(table[block]) <= set(allowed), (block, table[block])
        assert not set(RENAMED[block]) & set(allowed)
        assert set(RENAMED[block].values()) <= set(arguments_of(block))


def test_title_names_library_and_version() -> None:
    assert class_title("lora").startswith("LoraConfig (peft 0.")


@pytest.fixture
def fresh() -> Iterator[None]:
    """What is read is cached; these tests must neither find nor leave anything there."""
    for cached in (arguments.arguments_of, arguments._source, arguments._enum_values):
        cached.cache_clear()
    yield
    for cached in (arguments.arguments_of, arguments._source, arguments._enum_values):
        cached.cache_clear()


@pytest.fixture
def peft_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> Path:
    """An empty package that takes the place of peft."""
    (tmp_path / "peft" / "tuners" / "lora").mkdir(parents=True)
    (tmp_path / "peft" / "__init__.py").write_text("")
    for name in [name for name in sys.modules if name.split(".")[0] == "peft"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "peft"


def test_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(RecipeError, match=r"^transformers is not installed, and recipes are checked against it"):
        arguments_of("training")


def test_library_without_the_file(peft_at: Path) -> None:
    with pytest.raises(RecipeError, match=r"^peft has no file config\.py, so recipes cannot be checked; install the"):
        arguments_of("lora")


def test_library_without_the_class(peft_at: Path) -> None:
    (peft_at / "config.py").write_text("class Other:\n    pass\n")
    with pytest.raises(RecipeError, match=r"^peft has no class PeftConfigMixin in config\.py, so recipes cannot"):
        arguments_of("lora")


def test_fields_are_read_up_to_the_first_method(peft_at: Path) -> None:
    (peft_at / "config.py").write_text(
        "class PeftConfigMixin:\n    kept: int = 1\n\n\nclass PeftConfig:\n    _hidden: int = 0\n"
    )
    (peft_at / "tuners" / "lora" / "config.py").write_text(
        "class LoraConfig(PeftConfig):\n"
        "    r: int = 8\n"
        "    default = 3\n"
        "    strange: Strange | None = None\n"
        "    lots: Optional[Union[List[str], str]] = None\n"
        "    text: str = field(default='', metadata={'help': 'x', 'choices': NAMES})\n"
        "    def method(self):\n"
        "        local: int = 1\n"
        "\n"
        "class Other:\n"
        "    other: int = 1\n"
    )
    found = arguments_of("lora")
    assert list(found) == ["kept", "r", "strange", "lots", "text"]
    assert found["strange"].takes_object
    assert found["lots"].kinds == {"list", "text", "null"}
    assert found["text"].choices == ()
