"""One recipe in one run: its data, its adapter, what each view answered, and the measures over that."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from harness.data import check_splits, few_shot_examples, file_digest, read_split
from harness.engine.base_models import BaseModel, resolve_base
from harness.engine.integrity import check_attached, check_training, not_attached, probes
from harness.engine.task_files import find_task
from harness.errors import AdapterMissing, CapabilityError, DataError, GateError, HarnessError, ScoringError
from harness.judging import load_human_grades
from harness.measures import CapabilityResult, CapabilityTask, Classification, Generation, Judged, Structure
from harness.pipeline.calibrating import JudgeCheck, check_of
from harness.pipeline.grading import StoredGrades
from harness.pipeline.identity import TRAINING_LIBRARIES, code_digest, library_versions
from harness.progress import Progress
from harness.recipes import Recipe, fingerprint, resolved
from harness.records import ADAPTER, PROMPTED_BASE, VIEWS, Choices, Example, IntegrityCheck, Message, Outputs
from harness.records import TrainingSummary as Training
from harness.store import Adapter, Store, content_key

if TYPE_CHECKING:
    from harness.engine.models import LoadedModel

__all__ = ["RecipeRun", "Splits"]

T = TypeVar("T")

_TRAINING_CODE = tuple(
    f"engine/{name}.py"
    for name in (
        "attention",
        "chat",
        "layers",
        "memory",
        "models",
        "packing",
        "scoring",
        "training",
    )
)


class Splits(NamedTuple):
    """A recipe's data sets, checked one by one and against each other."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


class RecipeRun:
    """Everything is computed on first use, kept for the run, and taken from the store where it is known.

    A model is loaded only for what the store does not know. `close` gives its memory back.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        store: Store,
        progress: Progress,
        device: str | None = None,
        allow_training: bool = True,
        capability_folder: Path | None = None,
        rubrics_folder: Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.recipe = recipe
        self.store = store
        self.progress = progress
        self.device = device
        self.allow_training = allow_training
        self.capability_folder = recipe.evaluation.capability or capability_folder
        self.rubrics_folder = rubrics_folder
        self.environ = environ
        self.from_store: bool | None = None
        self.outputs: dict[str, Outputs] = {}
        self.choices: dict[str, Choices] = {}
        self._adapter: Adapter | None = None
        self._integrity: tuple[IntegrityCheck, ...] | None = None
        self._loaded: LoadedModel | None = None
        self._capability: dict[str, CapabilityTask] = {}

    # What the recipe names

    @functools.cached_property
    def splits(self) -> Splits:
        """Raises DataError with every problem of the three files."""
        data = self.recipe.data
        read = functools.partial(read_split, task=data.task, system=data.system, labels=data.labels)
        found: list[tuple[Example, ...]] = []
        problems: list[str] = []
        for path in (data.train, data.validation, data.test):
            try:
                found.append(read(path))
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError(problems)
        splits = Splits(*found)
        check_splits(*splits)
        return splits

    @functools.cached_property
    def data_digests(self) -> dict[str, str]:
        data = self.recipe.data
        files = {"train": data.train, "validation": data.validation, "test": data.test}
        return {split: file_digest(file) for split, file in files.items()}

    @functools.cached_property
    def base(self) -> BaseModel:
        base = self.recipe.base
        return resolve_base(base.model, base.revision, relative_to=self.recipe.source.parent)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of everything that changes the adapter."""
        return fingerprint(
            self.recipe,
            base_digest=self.base.digest,
            data_digests=self.data_digests,
            versions=library_versions(TRAINING_LIBRARIES),
            engine_version=code_digest(*_TRAINING_CODE),
        )

    # The adapter

    def adapter(self) -> Adapter:
        """From the store, or trained now.

        Raises AdapterMissing where training is needed and not allowed, and what reading the data, loading the
        base and training raise.
        """
        if self._adapter is None:
            self.splits  # noqa: B018  (wrong data is reported before an adapter is looked for)
            found = self.store.adapter(self.fingerprint)
            self.from_store = found is not None
            self._adapter = found or self._train()
        return self._adapter

    def adapter_if_known(self) -> Adapter | None:
        """The adapter if it was asked for before; nothing is trained or read for this."""
        return self._adapter

    def fingerprint_if_known(self) -> str | None:
        """The fingerprint if data and base model can be read, else None."""
        try:
            return self.fingerprint
        except HarnessError:
            return None

    def training(self) -> Training | None:
        """How the adapter was trained, from its manifest; None before there is one, and where that does not say it."""
        if self._adapter is None:
            return None
        manifest = self._adapter.manifest
        try:
            curves = {
                name: tuple((int(s), float(v)) for s, v in manifest[name]) for name in ("loss", "validation_loss")
            }
            training = Training(
                seconds=float(manifest["seconds"]),
                tokens=int(manifest["tokens"]),
                steps=int(manifest["global_step"]),
                max_steps=int(manifest["max_steps"]),
                **curves,
            )
        except (KeyError, TypeError, ValueError):  # the manifest is not among the files that it has digests of
            return None
        return training if _finite(dataclasses.asdict(training)) else None

    def _train(self) -> Adapter:
        if not self.allow_training:
            raise AdapterMissing(
                f"{self.recipe.name}: no adapter with fingerprint {self.fingerprint[:12]} in {self.store.root}, and "
                "--harness-no-train forbids training. Run once without it, or point --harness-store at a store "
                "that has it."
            )
        with self.store.adapter_lock(self.fingerprint):
            found = self.store.adapter(self.fingerprint)  # another process may have trained it meanwhile
            self.from_store = found is not None
            return found or self._train_into_store()

    def _train_into_store(self) -> Adapter:
        from harness.engine.training import hardware, train_adapter

        splits, recipe = self.splits, self.recipe
        self.progress.message(
            f"{recipe.name}: fine-tuning {self.base.name} on {len(splits.train)} examples "
            f"(fingerprint {self.fingerprint[:12]} is not in {self.store.root})"
        )
        loaded = self._load_base()
        try:
            with self.store.work_folder() as work:
                result = train_adapter(
                    loaded,
                    train=splits.train,
                    validation=splits.validation,
                    lora=recipe.lora,
                    training=recipe.training,
                    seed=recipe.seed,
                    folder=work,
                    progress=self.progress,
                )
                manifest = {
                    "recipe": resolved(recipe),
                    "base": {"name": self.base.name, "digest": self.base.digest},
                    "data_digests": self.data_digests,
                    "versions": library_versions(),
                    "engine_version": code_digest(*_TRAINING_CODE),
                    "hardware": hardware(loaded.device),
                    "global_step": result.steps,
                    "max_steps": result.max_steps,
                    "seconds": round(result.seconds, 3),
                    "tokens": result.example_tokens,
                    "computed_tokens": result.tokens,
                    "row_tokens": result.row_tokens,
                    "packed": result.packed,
                    "loss": result.loss,
                    "validation_loss": result.validation_loss,
                }
                return self.store.keep_adapter(work, self.fingerprint, manifest)
        finally:
            loaded.close()

    # Its integrity

    def integrity(self) -> tuple[IntegrityCheck, ...]:
        """What has to hold of the adapter before it is measured; checked once a run.

        Raises what `adapter`, loading the base and asking it the test examples raise.
        """
        if self._integrity is None:
            self._integrity = (*self._loaded_integrity(), *check_training(self.adapter().manifest))
        return self._integrity

    def integrity_if_known(self) -> tuple[IntegrityCheck, ...]:
        """The checks if they were made before, else none."""
        return self._integrity or ()

    def _loaded_integrity(self) -> tuple[IntegrityCheck, ...]:
        """The checks that need the model, from the store where they passed before."""
        asked = probes(self.splits.test)
        prompts = [[[[m.role, m.content] for m in e.messages], e.expected] for e in asked]
        key = content_key({"prompts": prompts, **self._model_key(ADAPTER)})
        known = self.store.result("integrity", key)
        if known is not None:
            return tuple(IntegrityCheck(**check) for check in known)
        checks = self._check_loaded(asked)
        if all(check.passed for check in checks):  # what failed is looked at again rather than remembered
            self.store.keep_result("integrity", key, [dataclasses.asdict(check) for check in checks])
        return checks

    def _check_loaded(self, asked: tuple[Example, ...]) -> tuple[IntegrityCheck, ...]:
        adapter = self.adapter()
        loaded = self._base_loaded()
        try:
            self._attach(loaded)
        except ScoringError as error:
            return (not_attached(error),)
        return check_attached(loaded, adapter.folder, asked)

    # The model

    def _load_base(self) -> LoadedModel:
        from harness.engine.models import choose_device, load_base

        folder = self.base.folder(self.progress.message)
        return load_base(folder, self.recipe.quantization, choose_device(self.device))

    @contextlib.contextmanager
    def _model(self, view: str) -> Iterator[tuple[LoadedModel, Any]]:
        """The loaded model and the module that answers for `view`; base and adapter share one load."""
        loaded = self._base_loaded()
        if view == ADAPTER:
            self._attach(loaded)
        switched: AbstractContextManager[Any] = loaded.adapter_view() if view == ADAPTER else loaded.base_view()
        with switched as model:
            yield loaded, model

    def _base_loaded(self) -> LoadedModel:
        if self._loaded is None:
            self._loaded = self._load_base()
            self._say_if_plain(self._loaded)
        return self._loaded

    def _attach(self, loaded: LoadedModel) -> None:
        """Put the adapter on the model, once. Raises ScoringError, and closes the model, if it does not fit."""
        if loaded.has_adapter:
            return
        folder = self.adapter().folder
        try:
            loaded.attach(folder)
        except Exception as error:
            self.close()  # some of the adapter may be on the model already, and it would answer as the base
            if isinstance(error, HarnessError):
                raise
            # Of what PEFT raises for a wrong shape, type or configuration, no two are of one class.
            found = " ".join(str(error).split())
            raise ScoringError(f"{folder}: PEFT cannot load this adapter ({type(error).__name__}: {found})") from error

    def _say_if_plain(self, loaded: LoadedModel) -> None:
        from harness.engine.models import PLAIN_BATCHES, takes_rows

        trained_here = self.from_store is False and self._adapter is not None  # training has said it
        if not trained_here and not takes_rows(loaded.model):
            self.progress.message(f"{self.recipe.name}: {PLAIN_BATCHES}")

    def close(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    # What the views answer

    def answer(self, view: str) -> Outputs:
        """The view's greedy answers to the test examples."""
        if view not in self.outputs:
            self.outputs[view] = self._stored(
                "outputs",
                {**self._asked(view), "max_new_tokens": self.recipe.evaluation.max_new_tokens},
                lambda: self._generate(view),
                lambda o: {"ids": o.ids, "texts": o.texts, "truncated": sorted(o.truncated)},
                lambda v: Outputs(view, tuple(v["ids"]), tuple(v["texts"]), frozenset(v["truncated"])),
            )
        return self.outputs[view]

    def score_choices(self, view: str) -> Choices:
        """The view's log-likelihood of every label after every test example's prompt."""
        if view not in self.choices:
            self.choices[view] = self._stored(
                "choices",
                {**self._asked(view), "options": self.recipe.data.labels},
                lambda: self._score(view),
                lambda c: {"ids": c.ids, "options": c.options, "log_likelihoods": c.log_likelihoods},
                lambda v: Choices(
                    view,
                    tuple(v["ids"]),
                    tuple(v["options"]),
                    tuple(tuple(row) for row in v["log_likelihoods"]),
                ),
            )
        return self.choices[view]

    def examples(self, view: str) -> tuple[Example, ...]:
        """The test examples as `view` is asked them: prompted_base sees worked examples before each."""
        if view not in VIEWS:
            raise GateError(f"there is no view {view!r}; the views are {', '.join(VIEWS)}")
        if view != PROMPTED_BASE:
            return self.splits.test
        shots = few_shot_examples(self.splits.train, n=self.recipe.evaluation.few_shot, seed=self.recipe.seed)
        turns: list[Message] = []
        for shot in shots:
            turns += [m for m in shot.messages if m.role != "system"]
            turns.append(Message("assistant", shot.expected))
        return tuple(_with_turns(example, turns) for example in self.splits.test)

    def _generate(self, view: str) -> Outputs:
        from harness.engine.generation import generate_answers

        examples = self.examples(view)
        with self._model(view) as (loaded, model), self._counted(f"{view} answers", len(examples)) as count:
            return generate_answers(
                model,
                loaded.tokenizer,
                examples,
                view=view,
                max_new_tokens=self.recipe.evaluation.max_new_tokens,
                context_length=loaded.context_length,
                device=loaded.device,
                progress=count,
            )

    def _score(self, view: str) -> Choices:
        from harness.engine.choices import score_options

        examples, labels = self.examples(view), self.recipe.data.labels
        with (
            self._model(view) as (loaded, model),
            self._counted(f"{view} scores labels", len(examples) * len(labels)) as count,
        ):
            return score_options(loaded, model, examples, labels, view=view, progress=count)

    # Measures

    def classification(self) -> Classification:
        """Raises GateError where the recipe's data has no labels."""
        if self.recipe.data.task != "classification":
            raise GateError(
                f"{self.recipe.name}: the fixture `classification` needs data.task: classification, and it is "
                f"{self.recipe.data.task}. Use `generation`, `structure` or `judge`."
            )
        return Classification(self.splits.test, self.recipe.data.labels, self.score_choices, self.answer)

    def generation(self) -> Generation:
        return Generation(self.splits.test, self.answer)

    def structure(self) -> Structure:
        return Structure(self.splits.test, self.answer)

    def judge(self) -> Judged:
        """By the rubric named like the recipe. Raises RubricError where there is none."""
        return self._judged(self._judge_check.grades)

    def judge_problem(self) -> str | None:
        """Why no gate may be decided by the recipe's judge, or None; the judge is checked on first use.

        Raises RubricError where there is no rubric.
        """
        return self._judge_check.problem()

    def judge_if_known(self) -> dict[str, Any]:
        """How far the judge agrees with people, where it was asked to grade something, else {}."""
        return self._judge_check.facts() if "_judge_check" in self.__dict__ else {}

    @functools.cached_property
    def _judge_check(self) -> JudgeCheck:
        return check_of(
            self.recipe.name,
            self.rubrics_folder or Path("fixtures/rubrics"),
            store=self.store,
            environ=self.environ,
            progress=self.progress,
        )

    def _judged(self, grades: StoredGrades) -> Judged:
        check = self._judge_check
        file = check.file.parent.parent / "human" / f"{self.recipe.name}.jsonl"
        return Judged(self.splits.test, self.answer, grades, load_human_grades(file, check.rubric))

    def capability(self, name: str) -> CapabilityTask:
        """One task for the whole run, so that its items are run once a view."""
        if name not in self._capability:
            self._capability[name] = CapabilityTask(name, functools.partial(self._capability_result, name))
        return self._capability[name]

    def _capability_result(self, name: str, view: str) -> CapabilityResult:
        if view == PROMPTED_BASE:
            raise CapabilityError(f"capability task {name}: the view prompted_base has no meaning here; use base.")
        file = find_task(name, self.capability_folder)
        key = {
            "task": name,
            "files": None if file is None else file.digest,
            "lm_eval": library_versions(["lm_eval"]),
            "form": 2,  # of what is stored: 2 has the accuracy of guessing
            **self._model_key(view),
        }
        return self._stored(
            "capability",
            key,
            lambda: self._run_capability(name, view),
            lambda r: {**dataclasses.asdict(r), "slices": dict(r.slices)},
            lambda v: CapabilityResult(
                view=view,
                ids=tuple(v["ids"]),
                values={metric: tuple(values) for metric, values in v["values"].items()},
                n_expected=v["n_expected"],
                unscored=v["unscored"],
                chance=v["chance"],
            ),
        )

    def _run_capability(self, name: str, view: str) -> CapabilityResult:
        from harness.engine.capability import run_task

        with self._model(view) as (loaded, model), self._counted(f"{view} on {name}", 0) as count:
            result = run_task(loaded, model, name, self.capability_folder, count)
        return CapabilityResult(
            view, result.ids, result.metrics, result.n_expected, result.unscored, chance=result.chance
        )

    # The store

    def _model_key(self, view: str) -> dict[str, Any]:
        """What decides a view's answers, beside what it is asked."""
        return {
            "base": self.base.digest,
            "quantization": dict(self.recipe.quantization),
            "adapter": self.adapter().digest if view == ADAPTER else None,
            "versions": library_versions(TRAINING_LIBRARIES),
            "code": code_digest("engine"),
        }

    def _asked(self, view: str) -> dict[str, Any]:
        prompts = [[e.id, [[m.role, m.content] for m in e.messages]] for e in self.examples(view)]
        return {"prompts": content_key({"prompts": prompts}), **self._model_key(view)}

    def _stored(
        self,
        kind: str,
        content: Mapping[str, Any],
        compute: Callable[[], T],
        plain: Callable[[T], Any],
        restore: Callable[[Any], T],
    ) -> T:
        key = content_key(content)
        value = self.store.result(kind, key)
        if value is not None:
            return restore(value)
        result = compute()
        stored = plain(result)
        # NaN makes a gate incomplete; it is measured again rather than remembered
        if _finite(stored) and not stored.get("unscored"):
            self.store.keep_result(kind, key, stored)
        return result

    @contextlib.contextmanager
    def _counted(self, task: str, total: int) -> Iterator[Callable[[int], None]]:
        """Progress over `total` units, counted up by what the engine reports."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self.progress.advance(done)

        self.progress.start(f"{self.recipe.name}: {task}", total)
        yield count
        self.progress.finish()


def _with_turns(example: Example, turns: list[Message]) -> Example:
    system = tuple(m for m in example.messages if m.role == "system")
    rest = tuple(m for m in example.messages if m.role != "system")
    return dataclasses.replace(example, messages=(*system, *turns, *rest))


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_finite(item) for item in value)
    return True
