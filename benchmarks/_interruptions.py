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
    """What a run would take from the store now, and what is reported as damaged."""
    from harness.pipeline import Places, Session
    from harness.store import Store

    lines: list[str] = []
    store = Store(project / ".harness", lines.append)
    fingerprint = Session(Places.below(project), environ={}).open("animals").fingerprint
    adapter = store.adapter(fingerprint)
    weights = {} if adapter is None else {"adapter": (adapter.folder / "adapter_model.safetensors").read_bytes()}
    answers: dict[str, dict[str, Any]] = {}
    for folder in sorted((project / ".harness" / "answers").glob("*/*")):
        answers[f"{folder.parent.name}/{folder.name}"] = store.answers(folder.parent.name, folder.name).read()
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


def kills(folder: Path, amount: int, seed: int) -> dict[str, Any]:
    """Kill runs at random moments, each going on where the one before it was killed, until `amount` were killed."""
    template, project = folder / "template", folder / "project"
    fresh(template, project)
    started = time.monotonic()
    if forked(lambda: run(project)) != 0:
        raise WrongError("the run that nobody disturbs did not end well")
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
            if found.weights != reference.weights or found.answers.keys() != reference.answers.keys():
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
    fresh(template, project)
    if forked(lambda: run(project)) != 0:
        raise WrongError("the run that nobody disturbs did not end well")
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
        if writes % 10 == 0:
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
    import harness.engine.training
    import harness.store.answers

    torch.set_num_threads(1)
    harness.engine.checkpoints._SECONDS, harness.engine.checkpoints._LARGEST_SHARE = 0.0, math.inf
    harness.store.answers._SECONDS = 0.0
    harness.engine.choices.token_budget = lambda *_arguments: 60  # several batches of a few examples
    try:
        result = {"kills": kills, "full-disk": full_disk}[kind](Path(folder), int(amount), int(seed))
    except WrongError as wrong:
        result = {"wrong": str(wrong)}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
