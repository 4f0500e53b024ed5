"""Capability tasks through lm-eval on a loaded model, item by item.

A task is a YAML file of lm-eval beside its JSONL data, or the name of one of lm-eval's own tasks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from harness.engine.memory import token_budget
from harness.engine.models import LoadedModel, takes_rows
from harness.engine.packing import TokenSequence
from harness.engine.prompts import SharedPrompt, prompt_tensors, shared_length
from harness.engine.scoring import score_continuations
from harness.engine.task_files import TaskFile, find_task
from harness.errors import CapabilityError

__all__ = ["TaskResult", "language_model", "run_task"]

_BATCH = 8  # items at a time where lm-eval itself makes the batches: windows of a rolling text, and answers


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Per-item results of a task: metrics maps a name to (n,) values in the order of ids.

    unscored: id -> why, for items whose log-likelihoods are not finite: lm-eval itself scores NaN as a guess.
    chance: the accuracy of guessing, where the items have a fixed number of choices.
    """

    ids: tuple[str, ...]
    metrics: dict[str, tuple[float, ...]]
    n_expected: int
    unscored: dict[str, str]
    chance: float | None


def run_task(
    loaded: LoadedModel,
    model: Any,
    task: str,
    folder: Path | None,
    progress: Callable[[int], None] | None = None,
) -> TaskResult:
    """Evaluate one view: `model` is what LoadedModel.base_view or adapter_view gave.

    folder: where <task>.yaml may be; without one there, lm-eval's own task of that name is used.
    Raises CapabilityError for an unknown task, a bad task file, or a context longer than the model's.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    file = find_task(task, folder)
    manager = TaskManager(include_defaults=file is None)
    if file is None and task not in manager.all_tasks:
        place = f"{folder / task}.yaml does not exist, and " if folder is not None else ""
        raise CapabilityError(
            f"capability task {task!r}: {place}lm-eval has no task of that name. Write a task file, "
            "or see `lm_eval ls tasks`."
        )
    try:
        results = simple_evaluate(
            model=language_model(loaded, model, progress),
            tasks=[task if file is None else _config(file)],
            task_manager=manager,
            log_samples=True,
            bootstrap_iters=0,
            cache_requests=False,
        )
    except CapabilityError as error:
        raise CapabilityError(f"capability task {task!r}: {error}") from None
    except Exception as error:  # lm-eval raises what its task files, datasets and metrics raise
        raise CapabilityError(f"capability task {task!r}: {type(error).__name__}: {error}") from error
    finally:
        model.eval()
    if len(results["samples"]) != 1:
        raise CapabilityError(f"{task!r} is a group of {len(results['samples'])} tasks; name one task of it.")
    (samples,) = results["samples"].values()
    return _task_result(samples)


def language_model(loaded: LoadedModel, model: Any, progress: Callable[[int], None] | None = None) -> HFLM:
    """What lm-eval asks: its own class for Hugging Face models, with every shared prefix computed once.

    model: what LoadedModel.base_view or adapter_view gave. progress: called with the number of requests answered.
    """
    return _RowLM(loaded, model, progress)


def _config(file: TaskFile) -> dict[str, Any]:
    """lm-eval's configuration of a task file, with its data handed over as read."""
    dropped = ("dataset_path", "dataset_kwargs")
    config = {key: value for key, value in file.config.items() if key not in dropped}
    config["custom_dataset"] = lambda **_options: {
        split: datasets.Dataset.from_list(list(rows)) for split, rows in file.rows.items()
    }
    return config


def _task_result(samples: Sequence[dict[str, Any]]) -> TaskResult:
    by_document: dict[str, dict[str, Any]] = {}
    unscored: dict[str, str] = {}
    choices: set[int] = set()
    identities = _identities(samples)
    for sample in samples:
        identity = identities[sample["doc_id"]]
        values = [_first(response) for response in sample["filtered_resps"]]
        numbers = [value for value in values if isinstance(value, float)]
        if any(not math.isfinite(value) for value in numbers):
            unscored[identity] = "a log-likelihood is not a finite number"
            continue
        by_document[identity] = sample
        choices.add(len(numbers))
    names = next(iter(by_document.values()))["metrics"] if by_document else []
    metrics = {name: tuple(float(s[name]) for s in by_document.values()) for name in names}
    chance = 1 / min(choices) if len(choices) == 1 and min(choices) > 1 else None
    return TaskResult(tuple(by_document), metrics, len(identities), unscored, chance)


def _identities(samples: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Document number -> the document's own id where all have distinct ones, else the number.

    In some of lm-eval's own tasks "id" names a passage that several items share.
    """
    own = {sample["doc_id"]: str(sample["doc"].get("id", sample["doc_id"])) for sample in samples}
    return own if len(set(own.values())) == len(own) else {number: str(number) for number in own}


def _first(response: Any) -> Any:
    while isinstance(response, (list, tuple)):
        response = response[0]
    return response


class _RowLM(HFLM):
    """lm-eval's Hugging Face model, which computes every shared prefix once, and truncates nothing."""

    def __init__(self, loaded: LoadedModel, model: Any, progress: Callable[[int], None] | None) -> None:
        super().__init__(pretrained=model, tokenizer=loaded.tokenizer, batch_size=_BATCH, device=loaded.device)
        self.share = takes_rows(model)
        self.progress = progress
        self.read: tuple[list[int], SharedPrompt] = ([], SharedPrompt(model, [], loaded.device))

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        # The last token is predicted and not read, so a text may have one token more than the context.
        longest = max(len(context) + len(continuation) for _, context, continuation in requests) - 1
        if longest > self.max_length:
            raise CapabilityError(
                f"an item has {longest} tokens to read, and the model's context is {self.max_length}; "
                "nothing is truncated."
            )
        scores = score_continuations(
            self.model,
            [TokenSequence(tuple(context), tuple(continuation)) for _, context, continuation in requests],
            budget=token_budget(self.model, longest, str(self.device)),
            device=self.device,
            share=self.share,
            progress=self.progress,
        )
        return [(score.log_likelihood, score.greedy) for score in scores]

    def tok_batch_encode(
        self, strings: Sequence[str], *, left_truncate_len: int | None = None, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts of generate_until: left_truncate_len is what leaves room for the answer."""
        tokens, mask = super().tok_batch_encode(strings, **options)
        if left_truncate_len is not None and tokens.shape[1] > left_truncate_len:
            raise CapabilityError(
                f"an item has {tokens.shape[1]} tokens, and the model's context less the answer is "
                f"{left_truncate_len}; nothing is truncated. Lower max_gen_toks in the task's generation_kwargs."
            )
        return tokens, mask

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], *, attention_mask: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """(B, max_length) token ids. What all contexts begin with is read once, for all batches that begin with it."""
        prompts = [line[mask.bool()].tolist() for line, mask in zip(context, attention_mask, strict=True)]
        common = prompts[0][: shared_length(prompts)]
        if not self.read[0] or common[: len(self.read[0])] != self.read[0]:
            self.read = (common, SharedPrompt(self.model, common, self.device))
        shared = self.read[1]
        tokens, mask = prompt_tensors(
            prompts, shared=shared.length, filling=self.tokenizer.pad_token_id, device=self.device
        )
        result: torch.Tensor = super()._model_generate(
            tokens,
            max_length,
            stop,
            attention_mask=mask,
            past_key_values=shared.cache(len(prompts)),
            **options,
        )
        if self.progress is not None:
            self.progress(len(prompts))
        return result
