"""What the store promises: nothing is made twice, and nothing wrong is ever read.

    python benchmarks/store.py                # about 15 minutes on 2 cores
    python benchmarks/store.py --kills 20 --runs 3

Works on a project of its own with a tiny model, which it trains and evaluates for real: warm runs, an edited threshold
and an edited example as `pytest suites/`; kills and full disks as hundreds of trainings and evaluations; processes
that write at once; and a bit of every byte of what was stored. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _common import ROOT, BenchmarkError, add_date, machine_line, table

WARM_SECONDS = 5.0

_VIEWS_ASKED = 4  # by the suite below: three views score labels, one answers
_PROCESSES = 8
_WRITES = 50
_HEAVY = {"torch", "transformers", "peft", "trl", "bitsandbytes", "lm_eval", "datasets"}
_IMPORTED = re.compile(r"^import time:\s*\d+ \|\s*\d+ \|\s*(?P<name>\w+)", re.MULTILINE)
_SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_accuracy(classification, gate):
    gate(classification.accuracy, at_least=0.1)
    gate(classification.accuracy, compared_with="base", max_drop=0.99)
    gate(classification.accuracy, compared_with="prompted_base", max_drop=0.99)

def test_answers(generation, gate):
    gate(generation.exact_match, at_least=0.0)

def test_capability(capability, gate):
    for task in capability("facts"):
        gate(task.accuracy, at_least=0.0)
        gate(task.accuracy, view="base", at_least=0.0)
"""

Row = tuple[str, str, str, str]


# ---- The project


def make_project(folder: Path, *, train: int, test: int, epochs: int) -> Path:
    """The tiny project of the tests, with so many examples."""
    sys.path.append(str(ROOT / "tests"))
    import tiny

    model = folder / "model"
    if not model.exists():
        tiny.save_tiny_model(model)
    project = tiny.save_project(folder / f"project-{train}-{test}", model, suite=_SUITE)
    (project / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n", encoding="utf-8")
    recipe = project / "fixtures" / "recipes" / "animals.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(re.sub(r"num_train_epochs: \d+", f"num_train_epochs: {epochs}", text), encoding="utf-8")
    for split, n in (("train", train), ("test", test)):
        tiny.write_rows(project / "fixtures" / "data" / f"{split}.jsonl", tiny.rows(split, n, seed=0))
    return project


def suites(project: Path, *interpreter: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """`pytest suites/` in a process of its own: seconds, and the process. Raises BenchmarkError unless it passed."""
    env = {name: value for name, value in os.environ.items() if name not in ("HARNESS_STORE", "ANTHROPIC_API_KEY")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *interpreter, "-m", "pytest", "suites/"], cwd=project, env=env, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise BenchmarkError(f"pytest suites/ ended with {done.returncode}:\n{done.stdout}\n{done.stderr[-2000:]}")
    return seconds, done


def stored(store: Path) -> dict[str, int]:
    """Adapters, and answers by kind, as numbers of what was ever trained and asked: files and lines."""
    counted = {"adapters": sum(1 for _ in (store / "adapters").iterdir())}
    for file in sorted((store / "answers").rglob("*.jsonl")):
        kind = str(file.parent.relative_to(store / "answers"))
        counted[kind] = counted.get(kind, 0) + len(file.read_text(encoding="utf-8").splitlines())
    for folder in sorted((store / "results").iterdir()):
        counted[folder.name] = sum(1 for _ in folder.iterdir())
    return counted


def heavy_imports(log: str) -> set[str]:
    """The training libraries among the modules that `python -X importtime` names."""
    return _HEAVY & set(_IMPORTED.findall(log))


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What there is more of; a kind that is new counts whole."""
    return {kind: n - before.get(kind, 0) for kind, n in after.items() if n != before.get(kind, 0)}


# ---- What is measured


def once(project: Path, runs: int) -> list[Row]:
    """Warm runs, then an edited threshold, then an edited example."""
    _note("the first run trains and evaluates")
    suites(project)
    store = project / ".harness"
    first = stored(store)
    seconds = []
    for number in range(runs):
        _note(f"warm run {number + 1} of {runs}")
        seconds.append(suites(project)[0])
    imported = heavy_imports(suites(project, "-X", "importtime")[1].stderr)
    more = grown(first, stored(store))

    _note("an edited threshold")
    suite = project / "suites" / "test_animals.py"
    suite.write_text(suite.read_text(encoding="utf-8").replace("at_least=0.1", "at_least=0.2"), encoding="utf-8")
    _, done = suites(project)
    by_threshold = grown(first, stored(store))
    trained = "fine-tuning" in done.stdout

    _note("an edited example")
    file = project / "fixtures" / "data" / "test.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[3] = lines[3].replace(": the ", ": is it the ")
    file.write_text("".join(lines), encoding="utf-8")
    _, done = suites(project)
    by_example = grown(first, stored(store))
    trained_again = "fine-tuning" in done.stdout
    asked = {kind: n for kind, n in by_example.items() if "/" in kind}
    # Views of one model share a folder, so that may grow by more than one.
    one_each = {kind: n // len(lines) for kind, n in first.items() if "/" in kind}
    views = sum(one_each.values())
    median = statistics.median(seconds)
    return [
        (
            f"`pytest suites/` with nothing changed, median of {runs}",
            f"{median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})",
            f"at most {WARM_SECONDS:g} s",
            _met(median <= WARM_SECONDS and not more),
        ),
        ("training libraries that it imports", ", ".join(sorted(imported)) or "none", "none", _met(not imported)),
        (
            "a threshold is edited: trained, asked again",
            f"{'yes' if trained else 'nothing'}, {sum(by_threshold.values()) or 'nothing'}",
            "nothing",
            _met(not trained and not by_threshold),
        ),
        (
            f"one of {len(lines)} test examples is edited: asked again",
            f"{sum(asked.values())} answers{', and trained' if trained_again else ''}",
            f"{views}: that one, by labels from 3 views and in words from 1",
            _met(asked == one_each and views == _VIEWS_ASKED and not trained_again),
        ),
    ]


def interrupted(kind: str, folder: Path, amount: int, seed: int, *, library: Path | None) -> dict[str, Any]:
    """One part of _interruptions.py; `library` is loaded before all others. Raises BenchmarkError where it fails."""
    log = folder / f"{kind}.log"
    env = {
        **os.environ,
        "INTERRUPTIONS_LOG": str(log),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    if library is not None:
        env["LD_PRELOAD"] = str(library)
    program = Path(__file__).with_name("_interruptions.py")
    done = subprocess.run(
        [sys.executable, str(program), kind, str(folder), str(amount), str(seed)],
        env=env,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{program.name} {kind} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def killed(folder: Path, amount: int, seed: int) -> Row:
    _note(f"{amount} kills")
    found = interrupted("kills", folder, amount, seed, library=None)
    what = f"`kill -9` at {amount} random moments of training and evaluation"
    if "wrong" in found:
        return what, found["wrong"], "nothing wrong is read", "missed"
    shown = (
        f"nothing wrong was read after any; {found.get('in the training', 0)} in training, "
        f"{found.get('in the evaluation', 0)} in evaluation; {found.get('ended', 0)} went on to the end, "
        "with the weights of a run that nobody disturbed"
    )
    return what, shown, "nothing wrong is read", _met(found["killed"] == amount)


def disk_full(folder: Path) -> Row:
    what = "a disk that is full from the Nth write on, training and evaluation, for all N"
    _note("full disks")
    compiler = shutil.which("cc")
    if compiler is None:
        return what, "not measured: no C compiler for the library that stands between", "nothing wrong is read", ""
    source, library = Path(__file__).with_name("full_disk.c"), folder / "full_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    found = interrupted("full-disk", folder, 0, 0, library=library)
    if "wrong" in found:
        return what, found["wrong"], "nothing wrong is read", "missed"
    mended, second = found.get("mended by a second run", 0), found.get("second runs", 0)
    shown = (
        f"N = 0 to {found['writes'] - 1}: nothing wrong was read; {found.get('refused', 0)} runs ended with an error, "
        f"{found.get('ended well without', 0)} without what was refused; a second run mended {mended} of {second} tried"
    )
    return what, shown, "nothing wrong is read", _met(found["status of the last"] == 0 and mended == second)


_WRITER = """\
import sys
from pathlib import Path
from harness.store import Store

store, name = Store(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    with store.answers("choices", "k").adding() as add:
        add(f"{name}-{number}", [number, -1.5])
    store.keep_result("capability", f"{name}-{number}", number)
"""


def written_at_once(folder: Path) -> Row:
    """Several processes that add to one set of answers, and each keep results of their own."""
    from harness.store import Store

    _note("writes at once")
    root = folder / "written"
    command = [sys.executable, "-c", _WRITER, str(root)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [
        subprocess.Popen([*command, str(number), str(_WRITES)], text=True, **pipes) for number in range(_PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    started = time.perf_counter()
    for process in processes:
        process.communicate("go\n")
    seconds = time.perf_counter() - started
    expected = {f"{p}-{n}": [n, -1.5] for p in range(_PROCESSES) for n in range(_WRITES)}
    answers = Store(root).answers("choices", "k")
    lost = len(expected.keys() - answers.read().keys())
    with answers.adding() as add:
        add("last", 0)
    lines = stored_lines(answers.folder)
    doubled = len(lines) - len(set(lines))
    lost += sum(Store(root).result("capability", name) != number for name, (number, _) in expected.items())
    return (
        f"{_PROCESSES} processes with {_WRITES} writes of answers and {_WRITES} of results each",
        f"{lost} lost, {doubled} doubled, {seconds:.1f} s",
        "none lost, none doubled",
        _met(lost == doubled == 0),
    )


def stored_lines(folder: Path) -> list[str]:
    """The examples of all lines below a folder of answers."""
    return [
        json.loads(line)[1] for file in folder.glob("*.jsonl") for line in file.read_text(encoding="utf-8").splitlines()
    ]


def whole_run(folder: Path) -> Path:
    """The project of folder/template after a run that nobody disturbed."""
    interrupted("once", folder, 0, 0, library=None)
    return folder / "project"


def flipped(project: Path) -> list[Row]:
    """A bit of each byte of a stored adapter, of a set of answers and of a result, in turn."""
    from harness.store import Store

    _note("flipped bytes")
    store = Store(project / ".harness")
    (folder,) = (project / ".harness" / "adapters").iterdir()
    found = total = 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for position in range(len(whole)):
            total += 1
            with file.open("r+b") as stream:
                stream.seek(position)
                stream.write(bytes([whole[position] ^ 1 << position % 8]))
            found += store.adapter(folder.name) is None
            with file.open("r+b") as stream:
                stream.seek(position)
                stream.write(whole[position : position + 1])
    if store.adapter(folder.name) is None:
        raise BenchmarkError("the adapter is not whole after all bytes were put back")
    rows = [_flips("an adapter, its manifest included", found, total)]

    found = total = 0
    for file in sorted((project / ".harness" / "results").rglob("*.json")):
        whole = file.read_bytes()
        for position in range(len(whole)):
            total += 1
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
            found += store.result(file.parent.name, file.stem) is None
        file.write_bytes(whole)
    rows.append(_flips("results", found, total))

    file = next((project / ".harness" / "answers" / "choices").rglob("*.jsonl"))
    whole, found, total = file.read_bytes(), 0, 0
    answers = store.answers("choices", file.parent.name)
    expected = answers.read()
    for position in range(len(whole)):
        total += 1
        for left in file.parent.iterdir():
            left.unlink()
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        left_over = answers.read()
        found += len(left_over) < len(expected) and left_over.items() <= expected.items()
    rows.append(_flips("answers: only those of the damaged line are lost", found, total))
    return rows


def _flips(what: str, found: int, total: int) -> Row:
    shown = f"{found:,} of {total:,} found"
    return f"a flipped bit in each byte of {what}", shown, "every one", _met(0 < found == total)


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _note(line: str) -> None:
    print(f"store.py: {line}", file=sys.stderr, flush=True)


# ---- The command


def main(argv: Sequence[str]) -> int:
    from harness.pipeline.identity import provenance

    parser = argparse.ArgumentParser(prog="store.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="warm runs (5)")
    parser.add_argument("--kills", type=int, default=100, help="moments at which a run is killed (100)")
    parser.add_argument("--seed", type=int, default=0, help="of these moments (0)")
    parser.add_argument("--only", choices=("edits", "kills", "full-disk", "writes", "flips"), help="one part (all)")
    add_date(parser)
    chosen = parser.parse_args(argv)
    for name in ("runs", "kills"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(chosen, name)}")
    with tempfile.TemporaryDirectory(prefix="store-benchmark-") as temporary:
        folder = Path(temporary)
        try:
            rows: list[Row] = []
            if chosen.only in (None, "edits"):
                rows += once(make_project(folder, train=96, test=24, epochs=2), chosen.runs)
            # 4 steps and 8 examples for the kills; for each write a run of its own, so 2 steps and 4 examples.
            if chosen.only in (None, "kills"):
                make_project(folder, train=32, test=8, epochs=1).rename(folder / "template")
                rows.append(killed(folder, chosen.kills, chosen.seed))
                shutil.rmtree(folder / "template")
            if chosen.only in (None, "full-disk", "flips"):
                make_project(folder, train=16, test=4, epochs=1).rename(folder / "template")
            if chosen.only in (None, "full-disk"):
                rows.append(disk_full(folder))
            if chosen.only in (None, "writes"):
                rows.append(written_at_once(folder))
            if chosen.only in (None, "flips"):
                rows += flipped(whole_run(folder))
        except BenchmarkError as error:
            print(f"store.py: {error}", file=sys.stderr)
            return 1
    print(f"\n{machine_line(provenance(ROOT, os.environ), chosen.date)}")
    print(f"\n{table(('promise', 'measured', 'target', 'result'), rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
