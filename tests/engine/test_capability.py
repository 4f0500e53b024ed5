"""Capability items through lm-eval: the numbers of its own model class, and what is refused."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from harness.engine import capability
from harness.engine.capability import run_task
from harness.engine.models import LoadedModel
from harness.errors import CapabilityError

TASK = """\
task: words
dataset_path: json
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
N = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Questions of several lengths, choices of one and of several tokens, some beginning like others."""
    draw = random.Random(0)
    words = [*tiny.ANIMALS, *tiny.TOOLS, "the cat", "the cat and the dog", "the owl or an animal", "an axe and the hen"]
    (tmp_path / "words.yaml").write_text(TASK)
    tiny.write_rows(
        tmp_path / "words.jsonl",
        [
            {
                "id": f"w{k}",
                "question": "the " * draw.randint(0, 20) + "animal is",
                "choices": draw.sample(words, 3),
                "gold": draw.randrange(3),
            }
            for k in range(N)
        ],
    )
    return tmp_path


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What lm-eval gave back item by item, filled by the next run_task."""
    seen: list[dict[str, Any]] = []

    def recording(**arguments: Any) -> Any:
        results = simple_evaluate(**arguments)
        seen.extend(*results["samples"].values())
        return results

    monkeypatch.setattr(capability, "simple_evaluate", recording)
    return seen


def stock_samples(loaded: LoadedModel, folder: Path) -> list[dict[str, Any]]:
    """The same task file by lm-eval alone, which reads it itself and scores padded batches."""
    task = folder / "stock.yaml"
    task.write_text(TASK.replace("words.jsonl", str(folder / "words.jsonl")).replace("task: words", "task: stock"))
    results = simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4, device="cpu"),
        tasks=["stock"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    return sorted(results["samples"]["stock"], key=lambda sample: int(sample["doc_id"]))


def log_likelihoods(sample: dict[str, Any]) -> list[float]:
    return [float(response[0]) for response in sample["filtered_resps"]]


def test_items_are_those_of_lm_evals_own_model(
    tiny_loaded: LoadedModel,
    folder: Path,
    samples: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []
    result = run_task(tiny_loaded, tiny_loaded.model, "words", folder, counted.append)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    stock = stock_samples(tiny_loaded, folder)
    assert len(stock) == len(samples) == N
    for ours, theirs in zip(samples, stock, strict=True):
        assert ours["doc"] == theirs["doc"]
        assert log_likelihoods(ours) == pytest.approx(log_likelihoods(theirs), abs=1e-3)
    assert result.ids == tuple(f"w{k}" for k in range(N))
    assert result.metrics == {
        metric: tuple(float(sample[metric]) for sample in stock) for metric in ("acc", "acc_norm")
    }
    assert 0 < sum(result.metrics["acc"]) < N  # neither metric is constant here
    assert result.metrics["acc"] != result.metrics["acc_norm"]
    assert result.n_expected == N
    assert result.unscored == {}
    assert result.chance == pytest.approx(1 / 3)
    assert sum(counted) == 3 * N
    assert not tiny_loaded.model.training


def both_models(loaded: LoadedModel) -> tuple[Any, HFLM]:
    ours = capability.language_model(loaded, loaded.model)
    return ours, HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4, device="cpu")


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def test_rolling_log_likelihoods_are_those_of_lm_evals_own_model(tiny_loaded: LoadedModel) -> None:
    """Texts of one token, of exactly the context's length, and of several windows."""
    ours, stock = both_models(tiny_loaded)
    texts = ["#", "the cat and the dog", "#" * 256, "#" * 257, "a saw or an axe " * 80]
    assert len(tiny_loaded.tokenizer("#" * 256)["input_ids"]) == tiny_loaded.context_length
    asked = requests("loglikelihood_rolling", *((text,) for text in texts))
    assert ours.loglikelihood_rolling(asked, disable_tqdm=True) == pytest.approx(
        stock.loglikelihood_rolling(asked, disable_tqdm=True), rel=1e-5, abs=1e-3
    )


@pytest.mark.parametrize("beginning", ["", "Is it an animal or a tool? The answer is short. "])
def test_answers_are_those_of_lm_evals_own_model(tiny_loaded: LoadedModel, beginning: str) -> None:
    ours, stock = both_models(tiny_loaded)
    options = {"until": ["\n", "cat"], "max_gen_toks": 12}
    texts = [f"{beginning}{'the ' * (k * 5 % 7)}{word} is" for k, word in enumerate((*tiny.ANIMALS, *tiny.TOOLS))]
    asked = requests("generate_until", *((text, dict(options)) for text in texts))
    answers = ours.generate_until(asked, disable_tqdm=True)
    assert answers == stock.generate_until(asked, disable_tqdm=True)
    assert len(set(answers)) > 5


def test_a_context_without_room_for_the_answer_is_refused(tiny_loaded: LoadedModel) -> None:
    """lm-eval itself would cut the context's beginning off, with a warning."""
    ours, _ = both_models(tiny_loaded)
    asked = requests("generate_until", ("#" * 250, {"until": [], "max_gen_toks": 12}))
    with pytest.raises(
        CapabilityError, match=r"^an item has 250 tokens, and the model's context less the answer is 244"
    ):
        ours.generate_until(asked, disable_tqdm=True)


def test_an_edit_of_the_data_is_seen_at_once(tiny_loaded: LoadedModel, folder: Path) -> None:
    """`datasets` would take the data of the first run from its cache if size and time are kept."""
    first = run_task(tiny_loaded, tiny_loaded.model, "words", folder)
    data = folder / "words.jsonl"
    lines = data.read_text().replace('"gold": 0', '"gold": 9').replace('"gold": 1', '"gold": 0')
    data.write_text(lines.replace('"gold": 9', '"gold": 1'))
    assert run_task(tiny_loaded, tiny_loaded.model, "words", folder).metrics != first.metrics


def test_weights_that_are_not_numbers_leave_every_item_unscored(tiny_loaded: LoadedModel, folder: Path) -> None:
    """lm-eval itself would report the accuracy of a guess."""
    with torch.no_grad():
        tiny_loaded.model.model.layers[1].mlp.up_proj.weight[0, 0] = math.nan
    result = run_task(tiny_loaded, tiny_loaded.model, "words", folder)
    assert result.ids == ()
    assert result.metrics == {}
    assert result.n_expected == N
    assert result.unscored == {f"w{k}": "a log-likelihood is not a finite number" for k in range(N)}


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's own thousands of tasks take 13 s to index; what they are called does not matter here."""
    monkeypatch.setattr(capability, "TaskManager", lambda include_defaults: TaskManager(include_defaults=False))


@pytest.mark.usefixtures("few_tasks")
def test_an_unknown_task_says_where_it_was_looked_for(tiny_loaded: LoadedModel, folder: Path) -> None:
    with pytest.raises(
        CapabilityError,
        match=rf"^capability task 'wrods': {folder / 'wrods'}\.yaml does not exist, and lm-eval has no task of that "
        r"name\. Write a task file, or see `lm_eval ls tasks`\.$",
    ):
        run_task(tiny_loaded, tiny_loaded.model, "wrods", folder)
    with pytest.raises(CapabilityError, match=r"^capability task 'wrods': lm-eval has no task of that name"):
        run_task(tiny_loaded, tiny_loaded.model, "wrods", None)


def test_an_item_longer_than_the_context_is_refused(tiny_loaded: LoadedModel, folder: Path) -> None:
    """lm-eval itself would cut the question's beginning off, with a warning."""
    tiny.write_rows(
        folder / "words.jsonl",
        [{"id": "long", "question": "# " * 200, "choices": ["cat", "dog"], "gold": 0}],
    )
    with pytest.raises(
        CapabilityError,
        match=r"^capability task 'words': an item has \d{3} tokens to read, and the model's context is 256; nothing",
    ):
        run_task(tiny_loaded, tiny_loaded.model, "words", folder)


def test_what_lm_eval_raises_names_the_task(tiny_loaded: LoadedModel, folder: Path) -> None:
    (folder / "words.yaml").write_text(TASK.replace("{{question}}", "{{question | nothing}}"))
    with pytest.raises(CapabilityError, match=r"^capability task 'words': \w+: .*nothing"):
        run_task(tiny_loaded, tiny_loaded.model, "words", folder)


def test_items_that_share_an_id_are_told_apart() -> None:
    """Some of lm-eval's own tasks give the same id to all questions on one passage."""
    shared = [
        {
            "doc_id": number,
            "doc": {"id": "passage"},
            "filtered_resps": [(-1.0, True), (-2.0, False)],
            "metrics": ["acc"],
            "acc": float(number),
        }
        for number in (0, 1)
    ]
    result = capability._task_result(shared)
    assert result.ids == ("0", "1")
    assert result.metrics == {"acc": (0.0, 1.0)}
    assert result.n_expected == 2
