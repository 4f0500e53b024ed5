"""One recipe in one run: its data, its adapter, what each view answered, and the measures over that."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from harness.data import check_splits, few_shot_examples, file_digest, read_split
from harness.engine.base_models import BaseModel, resolve_base
from harness.engine.integrity import check_attached, check_training, not_attached, probes
from harness.engine.task_files import find_task
from harness.errors import AdapterMissing, CapabilityError, DataError, GateError, HarnessError, ScoringError
from harness.judging import ATTACKS, Budget, HumanGrades, Judge, JudgeSettings, Meter, load_human_grades, prices_as_of
from harness.measures import CapabilityResult, CapabilityTask, Classification, Generation, Judged, Structure
from harness.pipeline.calibrating import JudgeCheck, check_of
from harness.pipeline.fine_tuning import TRAINING_CODE, train_into_store, training_summary
from harness.pipeline.holding import HeldModel
from harness.pipeline.identity import TRAINING_LIBRARIES, code_digest, library_versions
from harness.pipeline.preferring import StoredPreferences
from harness.pipeline.remembering import Keep, stored_answers, stored_result
from harness.pipeline.seeds import Seeded
from harness.progress import Progress
from harness.promotion import DEFAULT_ALIAS, Move, Registry, Version
from harness.recipes import Recipe, fingerprint, resolved
from harness.records import (
    ADAPTER,
    PROMOTED,
    PROMPTED_BASE,
    VIEWS,
    Choices,
    Example,
    IntegrityCheck,
    JudgingSummary,
    Message,
    Outputs,
    SeedResult,
    TrainingSummary,
)
from harness.store import Adapter, Store, content_key

if TYPE_CHECKING:
    from harness.engine.models import LoadedModel

__all__ = ["RecipeRun", "Splits"]


class Splits(NamedTuple):
    """A recipe's data sets, checked one by one and against each other."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


class RecipeRun:
    """Everything is computed on first use, kept for the run, and taken from the store where it is known.

    A model is loaded only for what the store does not know. `close` gives its memory back.
    """

    asks_judges: ClassVar[bool] = True
    """Whether judges are asked, or only their earlier grades looked up."""

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
        baseline_alias: str = DEFAULT_ALIAS,
        judge_settings: JudgeSettings | None = None,
        judge_budget: Budget | None = None,
    ) -> None:
        self.recipe = recipe
        self.store = store
        self.progress = progress
        self.device = device
        self.allow_training = allow_training
        self.capability_folder = recipe.evaluation.capability or capability_folder
        self.rubrics_folder = rubrics_folder
        self.environ = environ
        self.baseline_alias = baseline_alias
        self.judge_settings = judge_settings or JudgeSettings()
        self.judge_budget = judge_budget or Budget(self.judge_settings.budget_here)
        self.before_training: Callable[[], None] | None = None
        """What must not fail once the training has been paid for."""
        self.from_store: bool | None = None
        self.outputs: dict[str, Outputs] = {}
        self.choices: dict[str, Choices] = {}
        self._answered: dict[str, dict[str, Any]] = {}
        self._adapter: Adapter | None = None
        self._seeded: Seeded | None = None
        self._integrity: tuple[IntegrityCheck, ...] | None = None
        self._held = HeldModel(self._load_to_answer)
        self._promoted: tuple[Move, Version] | None = None
        self._capability: dict[str, CapabilityTask] = {}
        self._meter = Meter()

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

    def base_digest_if_known(self) -> str | None:
        """The digest of the base model if that can be found, else None."""
        try:
            return self.base.digest
        except HarnessError:
            return None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of everything that changes the adapter; with several seeds, of the adapter that would be promoted."""
        if self.recipe.seeds:
            return self.adapter().fingerprint
        return fingerprint(
            self.recipe,
            base_digest=self.base.digest,
            data_digests=self.data_digests,
            versions=library_versions(TRAINING_LIBRARIES),
            engine_version=code_digest(*TRAINING_CODE),
        )

    # The adapter

    def adapter(self) -> Adapter:
        """From the store, or trained now.

        Raises AdapterMissing where training is needed and not allowed, and what reading the data, loading the
        base and training raise.
        """
        if self._adapter is None:
            self.splits  # noqa: B018  (wrong data is reported before an adapter is looked for)
            if self.recipe.seeds:
                return self._adapter_of_seeds()
            found = self.store.adapter(self.fingerprint)
            self.from_store = found is not None
            self._adapter = found or self._train()
        return self._adapter

    def _adapter_of_seeds(self) -> Adapter:
        self._seeded = Seeded.trained(self.recipe.seeds, self._train_seed)
        self.from_store = all(one.from_store for one in self._seeded.members)
        self._adapter = self._seeded.chosen.adapter
        return self._adapter

    def _train_seed(self, seed: int) -> tuple[Adapter, bool]:
        member = self.of_seed(seed)
        try:
            adapter = member.adapter()
        finally:
            member.close()
        return adapter, bool(member.from_store)

    def of_seed(self, seed: int) -> RecipeRun:
        """The run of the same recipe with this seed alone: its adapter has the fingerprint that it has there."""
        run = RecipeRun(
            self.recipe.model_copy(update={"seed": seed, "seeds": ()}),
            store=self.store,
            progress=self.progress,
            device=self.device,
            allow_training=self.allow_training,
            environ=self.environ,
        )
        # The same data and the same base: read and hashed once, however many seeds there are.
        run.splits, run.data_digests, run.base = self.splits, self.data_digests, self.base
        run.before_training = self.before_training
        return run

    def seed_results(self) -> tuple[SeedResult, ...]:
        """The adapters of the recipe's seeds, once they are there; none where it has one seed."""
        return () if self._seeded is None else self._seeded.results()

    def replicate_views(self) -> tuple[str, ...]:
        """The views of all the recipe's adapters, in the order of its seeds; none where it has one seed."""
        if not self.recipe.seeds:
            return ()
        self.adapter()
        return () if self._seeded is None else tuple(self._seeded.views)

    def adapter_if_known(self) -> Adapter | None:
        """The adapter if it was asked for before; nothing is trained or read for this."""
        return self._adapter

    def fingerprint_if_known(self) -> str | None:
        """The fingerprint if data and base model can be read, and with several seeds if they are trained, else None."""
        if self.recipe.seeds and self._adapter is None:
            return None
        try:
            return self.fingerprint
        except HarnessError:
            return None

    def training(self) -> TrainingSummary | None:
        """How the adapter was trained, from its manifest; None before there is one, and where that does not say it."""
        return None if self._adapter is None else training_summary(self._adapter.manifest)

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
        if self.before_training is not None:
            self.before_training()
        self.progress.message(
            f"{self.recipe.name}: fine-tuning {self.base.name} on {len(self.splits.train)} examples "
            f"(fingerprint {self.fingerprint[:12]} is not in {self.store.root})"
        )
        self.store.require_writable()
        loaded = self._load_base()
        try:
            return train_into_store(
                loaded,
                self.recipe,
                train=self.splits.train,
                validation=self.splits.validation,
                base=self.base,
                data_digests=self.data_digests,
                fingerprint=self.fingerprint,
                store=self.store,
                progress=self.progress,
            )
        finally:
            loaded.close()

    # The promoted one

    def promoted(self) -> Version | None:
        """The adapter of this recipe that the baseline alias points at, or None before the first promotion.

        Every file of it is hashed, once a run. Raises StoreError where it is not what was promoted, and ScoringError
        where it was trained on another base model or quantization: its answers would be those of another model.
        """
        if self._promoted is None:
            registry = Registry(self.store.root, self.recipe.name)
            move = registry.live(self.baseline_alias)
            if move is None:
                return None
            version = registry.checked(move.version)
            self._check_base(version)
            self._promoted = move, version
        return self._promoted[1]

    def promoted_if_known(self) -> dict[str, Any]:
        """Which promoted adapter was asked for, as JSON values; empty where none was, or there is none."""
        if self._promoted is None:
            return {}
        move, version = self._promoted
        return {"alias": move.alias, "version": move.version, "adapter_digest": version.adapter_digest}

    def _check_base(self, version: Version) -> None:
        base = version.statement.predicate["base"]
        found = (base["digest"], base["quantization"])
        if found != (self.base.digest, resolved(self.recipe)["quantization"]):
            what = "quantization" if found[0] == self.base.digest else f"base model ({base['name']})"
            raise ScoringError(
                f"{self.recipe.name}: version {version.number}, the promoted one, was trained on another {what}, so "
                "the two adapters cannot be compared on one model. Leave the gate out for this promotion, which then "
                "needs --accept-policy-change."
            )

    def _promoted_or_missing(self) -> Version:
        version = self.promoted()
        if version is None:
            raise AdapterMissing(
                f"{self.recipe.name}: nothing was promoted to {self.baseline_alias} yet, so the view {PROMOTED} has no "
                "adapter. Promote a first one with `harness promote RUN --first`."
            )
        return version

    # Its integrity

    def integrity(self) -> tuple[IntegrityCheck, ...]:
        """What has to hold of the adapter before it is measured; checked once a run.

        Raises what `adapter`, loading the base and asking it the test examples raise.
        """
        if self._integrity is None:
            views = self.replicate_views() or (ADAPTER,)
            self._integrity = tuple(check for view in views for check in self._integrity_of(view))
        return self._integrity

    def _integrity_of(self, view: str) -> tuple[IntegrityCheck, ...]:
        adapter = self._adapter_of(view)
        assert adapter is not None  # all these views have one
        checks = (*self._loaded_integrity(view, adapter), *check_training(adapter.manifest))
        if view == ADAPTER:
            return checks
        return tuple(
            dataclasses.replace(one, name=f"{one.name}: {view}", detail=f"{view}: {one.detail}") for one in checks
        )

    def integrity_if_known(self) -> tuple[IntegrityCheck, ...]:
        """The checks if they were made before, else none."""
        return self._integrity or ()

    def _loaded_integrity(self, view: str, adapter: Adapter) -> tuple[IntegrityCheck, ...]:
        """The checks that need the model, from the store where they passed before."""
        asked = probes(self.splits.test)
        prompts = [[[[m.role, m.content] for m in e.messages], e.expected] for e in asked]
        key = content_key({"prompts": prompts, **self._model_key(view)})
        known = self.store.result("integrity", key)
        if known is not None:
            return tuple(IntegrityCheck(**check) for check in known)
        checks = self._check_loaded(asked, adapter)
        if all(check.passed for check in checks):  # what failed is looked at again rather than remembered
            self.store.keep_result("integrity", key, [dataclasses.asdict(check) for check in checks])
        return checks

    def _check_loaded(self, asked: tuple[Example, ...], adapter: Adapter) -> tuple[IntegrityCheck, ...]:
        try:
            loaded = self._held.with_adapter(adapter.folder)
        except ScoringError as error:
            return (not_attached(error),)
        return check_attached(loaded, adapter.folder, asked)

    # The model

    def _load_base(self) -> LoadedModel:
        from harness.engine.models import choose_device, load_base

        folder = self.base.folder(self.progress.message)
        return load_base(folder, self.recipe.quantization, choose_device(self.device))

    def _load_to_answer(self) -> LoadedModel:
        from harness.engine.models import PLAIN_BATCHES, takes_rows

        self.store.require_writable()  # a model is loaded for what has to be kept
        loaded = self._load_base()
        trained_here = self.from_store is False and self._adapter is not None  # training has said it
        if not trained_here and not takes_rows(loaded.model):
            self.progress.message(f"{self.recipe.name}: {PLAIN_BATCHES}")
        return loaded

    def _model(self, view: str) -> AbstractContextManager[tuple[LoadedModel, Any]]:
        """The loaded model and the module that answers for `view`; base and adapter share one load."""
        return self._held.answering(self._folder_of(view))

    def _folder_of(self, view: str) -> Path | None:
        """The folder of the adapter that answers for a view, or None for the base."""
        if view == PROMOTED:
            return self._promoted_or_missing().folder
        adapter = self._adapter_of(view)
        return None if adapter is None else adapter.folder

    def _adapter_of(self, view: str) -> Adapter | None:
        if view == ADAPTER:
            return self.adapter()
        return self._seeded.views[view].adapter if self._seeded is not None and view in self._seeded.views else None

    def close(self) -> None:
        self._held.close()

    # What the views answer

    def answer(self, view: str) -> Outputs:
        """The view's greedy answers to the test examples."""
        if view not in self.outputs:
            self.outputs[view] = self.answer_some(view, [example.id for example in self.examples(view)])
        return self.outputs[view]

    def answer_some(self, view: str, ids: Sequence[str]) -> Outputs:
        """The view's greedy answers to these test examples, in their order; only what is not known is generated."""
        wanted, known = frozenset(ids), self._answered.setdefault(view, {})
        examples = [example for example in self.examples(view) if example.id in wanted]
        asked = {"max_new_tokens": self.recipe.evaluation.max_new_tokens}
        missing = [example for example in examples if example.id not in known]
        known.update(self._answers("outputs", view, asked, missing, self._generate))
        return Outputs(
            view,
            tuple(e.id for e in examples),
            tuple(known[e.id][0] for e in examples),
            frozenset(e.id for e in examples if known[e.id][1]),
        )

    def texts(self) -> dict[str, dict[str, str]]:
        """View -> id -> text of each answer that this run has, of some of the examples where a gate stopped early."""
        return {view: {i: answer[0] for i, answer in known.items()} for view, known in self._answered.items()}

    def likeliest_choices(self, view: str) -> Choices:
        """The view's log-likelihoods of the labels after every test example's prompt; None where a label cannot win."""
        if view not in self.choices:
            self.choices[view] = self._choices(view, every=False)
        return self.choices[view]

    def score_choices(self, view: str) -> Choices:
        """The view's log-likelihood of every label after every test example's prompt."""
        known = self.choices.get(view)
        if known is None or any(value is None for row in known.log_likelihoods for value in row):
            self.choices[view] = self._choices(view, every=True)
        return self.choices[view]

    def _choices(self, view: str, *, every: bool) -> Choices:
        examples, labels = self.examples(view), self.recipe.data.labels
        all_labels: dict[str, Any] = {"options": labels}
        asked = all_labels if every else {**all_labels, "which": "may win"}
        score = functools.partial(self._score, every=every)
        found = self._answers("choices", view, asked, examples, score, serving=all_labels)
        return Choices(view, tuple(e.id for e in examples), tuple(labels), tuple(tuple(found[e.id]) for e in examples))

    def examples(self, view: str) -> tuple[Example, ...]:
        """The test examples as `view` is asked them: prompted_base sees worked examples before each."""
        if view not in VIEWS and view not in self.replicate_views():
            raise GateError(f"there is no view {view!r}; the views are {', '.join(VIEWS)}")
        if view != PROMPTED_BASE:
            return self.splits.test
        shots = few_shot_examples(self.splits.train, n=self.recipe.evaluation.few_shot, seed=self.recipe.seed)
        turns: list[Message] = []
        for shot in shots:
            turns += [m for m in shot.messages if m.role != "system"]
            turns.append(Message("assistant", shot.expected))
        return tuple(_with_turns(example, turns) for example in self.splits.test)

    def _generate(self, view: str, examples: Sequence[Example], keep: Keep) -> None:
        from harness.engine.generation import generate_answers

        with self._model(view) as (loaded, model), self._counted(f"{view} answers", len(examples)) as count:
            generate_answers(
                model,
                loaded.tokenizer,
                examples,
                view=view,
                max_new_tokens=self.recipe.evaluation.max_new_tokens,
                context_length=loaded.context_length,
                device=loaded.device,
                progress=count,
                answered=lambda example_id, text, truncated: keep(example_id, (text, truncated)),
            )

    def _score(self, view: str, examples: Sequence[Example], keep: Keep, *, every: bool) -> None:
        from harness.engine.choices import score_options

        labels = self.recipe.data.labels
        with (
            self._model(view) as (loaded, model),
            self._counted(f"{view} scores labels", len(examples) * len(labels)) as count,
        ):
            score_options(loaded, model, examples, labels, view=view, every=every, progress=count, answered=keep)

    # Measures

    def classification(self) -> Classification:
        """Raises GateError where the recipe's data has no labels."""
        if self.recipe.data.task != "classification":
            raise GateError(
                f"{self.recipe.name}: the fixture `classification` needs data.task: classification, and it is "
                f"{self.recipe.data.task}. Use `generation`, `structure` or `judge`."
            )
        test, labels = self.splits.test, self.recipe.data.labels
        return Classification(test, labels, self.likeliest_choices, self.answer, score_every=self.score_choices)

    def generation(self) -> Generation:
        return Generation(self.splits.test, self.answer, self.answer_some)

    def structure(self) -> Structure:
        return Structure(self.splits.test, self.answer, self.answer_some)

    def judge(self) -> Judged:
        """By the rubric named like the recipe.

        Raises RubricError where there is none, and JudgeError where the project's judges cannot be had.
        """
        check = self._judge_check
        human = load_human_grades(check.file.parent.parent / "human" / f"{self.recipe.name}.jsonl", check.rubric)
        return self._judged(check.grades if self.asks_judges else check.known, check.preferences, human)

    def require_judge(self) -> None:
        """Raises what `judge` would: a missing rubric or key is better known before a training than after it."""
        self._judge_check  # noqa: B018

    def judge_problem(self) -> str | None:
        """Why no gate may be decided by the recipe's judge, or None; the judge is checked on first use.

        Raises RubricError where there is no rubric.
        """
        return self._judge_check.problem()

    def judge_if_known(self) -> dict[str, Any]:
        """How far the judge agrees with people, where it was asked to grade something, else {}."""
        return self._judge_check.facts() if "_judge_check" in self.__dict__ else {}

    def judging(self) -> JudgingSummary | None:
        """What the judging took so far; None where no judge was asked."""
        return self._meter.summary(self.judge_settings.budget_usd, prices_as_of())

    @functools.cached_property
    def _judge_check(self) -> JudgeCheck:
        return check_of(
            self.recipe.name,
            self.rubrics_folder or Path("fixtures/rubrics"),
            store=self.store,
            environ=self.environ,
            settings=self.judge_settings,
            budget=self.judge_budget,
            meter=self._meter,
            progress=self.progress,
            asked=self.asks_judges,
        )

    def _judged(
        self, judge: Judge, preferences: StoredPreferences | None = None, human: HumanGrades | None = None
    ) -> Judged:
        return Judged(
            self.splits.test,
            self.answer,
            judge,
            self.answer_some,
            prefer=None if preferences is None else preferences.prefer,
            attacks=ATTACKS,
            seed=self.recipe.seed,
            human=human or (lambda example_id, response: None),
        )

    def capability(self, name: str) -> CapabilityTask:
        """One task for the whole run, so that its items are run once a view."""
        if name not in self._capability:
            self._capability[name] = CapabilityTask(name, functools.partial(self._capability_result, name))
        return self._capability[name]

    def capability_digests(self) -> dict[str, str]:
        """Task -> digest of its files, of the tasks that were asked for and are not lm-eval's own."""
        files = {name: find_task(name, self.capability_folder) for name in sorted(self._capability)}
        return {name: file.digest for name, file in files.items() if file is not None}

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
        return stored_result(
            self.store,
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
            "adapter": self._digest_of(view),
            "versions": library_versions(TRAINING_LIBRARIES),
            "code": code_digest("engine"),
        }

    def _digest_of(self, view: str) -> str | None:
        """A promoted adapter with the digest of the run's own is the same one, and its answers are the same."""
        if view == PROMOTED:
            return self._promoted_or_missing().adapter_digest
        adapter = self._adapter_of(view)
        return None if adapter is None else adapter.digest

    def _answers(
        self,
        kind: str,
        view: str,
        asked: Mapping[str, Any],
        examples: Sequence[Example],
        ask: Callable[[str, Sequence[Example], Keep], None],
        *,
        serving: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Example id -> what `view` answered, as in `stored_answers`; the model is not looked at for no examples."""
        if not examples:
            return {}
        model = self._model_key(view)
        both = None if serving is None else {**serving, **model}
        return stored_answers(
            self.store, kind, {**asked, **model}, examples, functools.partial(ask, view), serving=both
        )

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
