"""Real trainings and evaluations of a tiny model that are killed, or whose disk is full: what store.py counts.

Each is a fork of one process that has loaded the libraries, so that hundreds of them take minutes. It is run as a
command (`_interruptions.py KIND FOLDER AMOUNT SEED`) and prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from harness.progress import Silent

_FLOAT32 = {"bnb_4bit_compute_dtype": "float32"}
_LONGEST = 120.0  # seconds of one run; a fork that hangs must not stop the count


class Reference(NamedTuple):
    """What a run that nobody disturbed left: the adapter's weights, and the answers by kind and example."""

    weights: dict[str, bytes]
    answers: dict[str, dict[str, Any]]


class WrongError(Exception):
    """Something was read from the store that is not what was written."""


def run(project: Path) -> None:
    """Train and evaluate, as a suite would. Checkpoints come at every step and answers are kept as they come."""
    from harness.pipeline import Places, Session

    session = Session(Places.below(project), environ={})
    recipe = session.open("animals")
    recipe.adapter()
    recipe.integrity()
    for view in ("base", "adapter"):
        recipe.score_choices(view)
        recipe.answer(view)
    session.close()


def read(project: Path) -> tuple[Reference, list[str]]:
    """What a run would take from the store now, and what is reported as damaged.

    Raises WrongError where answers lie under a key that no view has.
    """
    from harness.errors import AdapterMissing
    from harness.pipeline import Places, Session
    from harness.store import content_key

    lines: list[str] = []

    class Reading(Silent):
        def message(self, line: str) -> None:
            lines.append(line)

    recipe = Session(Places.below(project), environ={}, allow_training=False, progress=Reading()).open("animals")
    asked: dict[str, dict[str, Any]] = {
        "choices": {"options": recipe.recipe.data.labels},
        "outputs": {"max_new_tokens": recipe.recipe.evaluation.max_new_tokens},
    }
    weights: dict[str, bytes] = {}
    answers: dict[str, dict[str, Any]] = {}
    known: set[tuple[str, str]] = set()
    for view in ("adapter", "base"):
        try:
            model = recipe._model_key(view)
        except AdapterMissing:
            continue
        if view == "adapter":
            weights[view] = (recipe.adapter().folder / "adapter_model.safetensors").read_bytes()
        for kind, what in asked.items():
            key = content_key({**what, **model})
            known.add((kind, key))
            answers[f"{kind} of {view}"] = recipe.store.answers(kind, key).read()
    for folder in (project / ".harness" / "answers").glob("*/*"):
        if (folder.parent.name, folder.name) not in known:
            raise WrongError(f"there are {folder.parent.name} of a model that is not there")
    return Reference(weights, answers), lines


def compare(found: Reference, reference: Reference, lines: list[str]) -> None:
    """Raises WrongError unless all that was found is the reference's, to the rounding of another batch."""
    if lines:
        raise WrongError(f"reported as damaged: {lines[0]}")
    if found.weights and found.weights != reference.weights:
        raise WrongError("an adapter with other weights was read")
    for kind, values in found.answers.items():
        for example, value in values.items():
            expected = reference.answers[kind][example]
            same = value == expected or (
                kind.startswith("choices")
                and all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(value, expected, strict=True))
            )
            if not same:
                raise WrongError(f"{kind}: {value} was read, and {expected} is right")


def _asked(found: Reference) -> dict[str, set[str]]:
    return {kind: set(values) for kind, values in found.answers.items()}


def forked(action: Callable[[], None], *, kill_after: float | None = None) -> int:
    """Do it in a fork; returns its exit status, negative for the signal that ended it."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            log = os.open(os.environ["INTERRUPTIONS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            action()
            status = 0
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
        finally:
            os._exit(status)
    ends = time.monotonic() + (_LONGEST if kill_after is None else kill_after)
    while time.monotonic() < ends:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fresh(template: Path, project: Path) -> None:
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(template, project)


def once(folder: Path, _amount: int, _seed: int) -> dict[str, Any]:
    """A run that nobody disturbs, in folder/project."""
    fresh(folder / "template", folder / "project")
    if forked(lambda: run(folder / "project")) != 0:
        raise WrongError("the run that nobody disturbs did not end well")
    return {}


def kills(folder: Path, amount: int, seed: int) -> dict[str, Any]:
    """Kill runs at random moments, each going on where the one before it was killed, until `amount` were killed."""
    template, project = folder / "template", folder / "project"
    started = time.monotonic()
    once(folder, amount, seed)
    whole = time.monotonic() - started
    reference, _ = read(project)
    draw = random.Random(seed)
    counted: Counter[str] = Counter()
    fresh(template, project)
    while counted["killed"] < amount:
        status = forked(lambda: run(project), kill_after=draw.uniform(0.0, 1.1 * whole))
        found, lines = read(project)
        compare(found, reference, lines)
        if status == 0:
            if (found.weights, _asked(found)) != (reference.weights, _asked(reference)):
                raise WrongError("a run that went on to its end left less than one that nobody disturbed")
            counted["ended"] += 1
            fresh(template, project)
        elif status == -signal.SIGKILL:
            counted["killed"] += 1
            counted["in the evaluation" if found.weights else "in the training"] += 1
        else:
            raise WrongError(f"a run ended with status {status}; see {os.environ['INTERRUPTIONS_LOG']}")
    return {**counted, "seconds of a whole run": round(whole, 2)}


def full_disk(folder: Path, _amount: int, _seed: int) -> dict[str, Any]:
    """Let the disk be full from the Nth write on, for every N until nothing is refused any more."""
    library = ctypes.CDLL(None)
    template, project = folder / "template", folder / "project"
    once(folder, 0, 0)
    reference, _ = read(project)
    store = str(project / ".harness").encode()

    def limited(writes: int) -> None:
        library.full_disk_after(store, ctypes.c_long(writes))
        try:
            run(project)
        finally:
            asked.write_text(str(library.full_disk_asked()))

    asked = folder / "asked"
    counted: Counter[str] = Counter()
    writes = 0
    while True:
        fresh(template, project)
        status = forked(lambda allowed=writes: limited(allowed))  # type: ignore[misc]
        found, lines = read(project)
        compare(found, reference, lines)
        if int(asked.read_text()) <= writes:
            return {**counted, "writes": writes, "status of the last": status}
        counted["ended well without" if status == 0 else "refused"] += 1
        if writes % 20 == 0:
            counted["mended by a second run"] += forked(lambda: run(project)) == 0 and not read(project)[1]
            compare(read(project)[0], reference, [])
            counted["second runs"] += 1
        writes += 1


def main(argv: list[str]) -> int:
    kind, folder, amount, seed = argv
    # Loaded here, once for all forks.
    import torch

    import harness.engine.capability
    import harness.engine.checkpoints
    import harness.engine.choices
    import harness.engine.generation
    import harness.engine.models
    import harness.engine.training
    import harness.store.answers

    torch.set_num_threads(1)
    load_base = harness.engine.models.load_base
    # In bfloat16 the answers of a run that was killed, given in other batches, would differ in their last digits.
    harness.engine.models.load_base = lambda model, _quantization, device: load_base(model, _FLOAT32, device)
    harness.engine.checkpoints._SECONDS, harness.engine.checkpoints._LARGEST_SHARE = 0.0, math.inf
    harness.store.answers._SECONDS = 0.0
    harness.engine.choices.token_budget = lambda *_arguments: 60  # several batches of a few examples
    try:
        result = {"once": once, "kills": kills, "full-disk": full_disk}[kind](Path(folder), int(amount), int(seed))
    except WrongError as wrong:
        result = {"wrong": str(wrong)}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
