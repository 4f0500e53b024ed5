"""What the plugin adds to collecting: `pytest suites/ --collect-only -q` against plain pytest.

    python benchmarks/collection.py             # 7 runs of each, in turn
    python benchmarks/collection.py --runs 15

Plain pytest collects, with the plugin switched off, a copy of suites/ that has the same files and the same number
of tests, and no marks and no fixtures. Prints Markdown: both in wall and in processor seconds, the difference, and the
packages whose import the difference is made of.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from _common import ROOT, BenchmarkError, add_date, against, machine_line, table

TARGET_SECONDS = 0.5

_PLUGIN = "adapter-harness"
_COLLECTED = re.compile(r"^(?:\d+/)?(?P<tests>\d+) tests? collected", re.MULTILINE)
_IMPORTED = re.compile(r"import time:\s*(?P<own>\d+) \|\s*(?P<all>\d+) \| (?P<indent> *)(?P<name>\S+)")
_IMPORT_RUNS = 3
_PACKAGES_SHOWN = 5


# ---- The same tests without the harness


def test_counts(folder: Path) -> dict[Path, int]:
    """Test files below `folder`, relative to it -> how many test functions each defines."""
    return {
        file.relative_to(folder): _tests_in(file.read_text(encoding="utf-8"))
        for file in sorted(folder.rglob("test_*.py"))
    }


test_counts.__test__ = False  # type: ignore[attr-defined]  # where a test module imports it


def _tests_in(source: str) -> int:
    module = ast.parse(source)
    bodies = [module.body, *(node.body for node in module.body if isinstance(node, ast.ClassDef))]
    return sum(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in itertools.chain(*bodies))


def write_plain(folder: Path, counts: Mapping[Path, int], *, addopts: str = "") -> None:
    """A project in `folder` whose suites/ has these files and numbers of tests, and nothing of the harness."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = {addopts}\n", encoding="utf-8")
    for file, tests in counts.items():
        target = folder / "suites" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        functions = [f"def test_{number}():\n    pass\n" for number in range(tests)]
        target.write_text("\n\n".join(["import pytest\n", *functions]), encoding="utf-8")


def _addopts(project: Path) -> str:
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    options = settings.get("tool", {}).get("pytest", {}).get("ini_options", {}).get("addopts", "")
    return options if isinstance(options, str) else " ".join(options)


# ---- Running


class Side(NamedTuple):
    """One of the two that are compared: where pytest is started, with which arguments and environment."""

    name: str
    folder: Path
    arguments: tuple[str, ...]
    env: Mapping[str, str]

    def command(self, *more: str, interpreter: Sequence[str] = ()) -> list[str]:
        return [sys.executable, *interpreter, "-m", "pytest", "suites/", "--collect-only", "-q", *self.arguments, *more]


def environment(caches: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with compiled modules kept in `caches`.

    Where a shell forbids Python to keep them, every run would compile the whole plugin again, which is not what
    users see.
    """
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(caches)}


class Seconds(NamedTuple):
    """One run: wall time, and the processor time of the process, which other work on the machine changes little."""

    wall: float
    processor: float


def collected_tests(output: str) -> int:
    """The number of tests in pytest's last line, deselected ones included. Raises BenchmarkError if it has none."""
    match = _COLLECTED.search(output)
    if match is None:
        raise BenchmarkError(f"pytest collected nothing:\n{output}")
    return int(match["tests"])


def _pytest(side: Side, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=side.folder, env=side.env, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"{side.name}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def timed(side: Side, *, tests: int) -> Seconds:
    """Collect once. Raises BenchmarkError where collecting fails or finds another number of tests."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = _pytest(side, side.command())
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = collected_tests(done.stdout)
    if found != tests:
        raise BenchmarkError(f"{side.name}: collected {found} tests, the other side has {tests}; they must be alike")
    processor = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return Seconds(wall, processor)


def in_turn(plugin: Side, plain: Side, *, runs: int, tests: int) -> tuple[list[Seconds], list[Seconds]]:
    """plugin, plain, plugin, plain ...; one run of each before that writes the caches and does not count."""
    for side in (plugin, plain):
        timed(side, tests=tests)
    pairs = []
    for number in range(1, runs + 1):
        pairs.append((timed(plugin, tests=tests), timed(plain, tests=tests)))
        print(f"run {number} of {runs}: {pairs[-1][0].wall:.2f} s, {pairs[-1][1].wall:.2f} s", file=sys.stderr)
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


# ---- What is imported


class Import(NamedTuple):
    """A module's own import time, without what it imports in turn, and the module that imported it."""

    name: str
    seconds: float
    importer: str | None


class Package(NamedTuple):
    """Own import times of a package's modules, and who asked for it first."""

    name: str
    seconds: float
    modules: int
    importer: str | None


def parse_imports(text: str) -> list[Import]:
    """The lines of `python -X importtime`: a module comes after those it imports, which are indented more."""
    found: list[Import] = []
    waiting: list[tuple[int, int]] = []  # depth and place of modules whose importer is still to come
    for match in _IMPORTED.finditer(text):
        depth, name = len(match["indent"]), match["name"]
        while waiting and waiting[-1][0] > depth:
            place = waiting.pop()[1]
            found[place] = found[place]._replace(importer=name)
        waiting.append((depth, len(found)))
        found.append(Import(name, int(match["own"]) / 1e6, None))
    return found


def fastest(runs: Iterable[Iterable[Import]]) -> list[Import]:
    """Each module's least import time of several runs: what is above it is the machine's other work."""
    least: dict[str, Import] = {}
    for imports in runs:
        for entry in imports:
            known = least.get(entry.name)
            least[entry.name] = entry if known is None or entry.seconds < known.seconds else known
    return list(least.values())


def added_packages(plugin: Iterable[Import], plain: Iterable[Import]) -> list[Package]:
    """Packages by what their modules cost that only the plugin's run imports, the costliest first."""
    known = {entry.name for entry in plain}
    modules: dict[str, list[Import]] = {}
    for entry in plugin:
        if entry.name not in known:
            modules.setdefault(_top(entry.name), []).append(entry)
    packages = [
        Package(
            name,
            sum(entry.seconds for entry in entries),
            len(entries),
            next((e.importer for e in entries if e.importer is not None and _top(e.importer) != name), None),
        )
        for name, entries in modules.items()
    ]
    return sorted(packages, key=lambda package: (-package.seconds, package.name))


def _top(module: str) -> str:
    return module.partition(".")[0]


def imports_of(side: Side, *, runs: int) -> list[Import]:
    """What one side imports. Capturing is off, or pytest would keep the lines that come while it collects."""
    command = side.command("-s", interpreter=("-X", "importtime"))
    return fastest(parse_imports(_pytest(side, command).stderr) for _ in range(runs))


# ---- Tables


def difference(plugin: Sequence[float], plain: Sequence[float]) -> float:
    """Of the medians."""
    return statistics.median(plugin) - statistics.median(plain)


def times_table(plugin: Sequence[Seconds], plain: Sequence[Seconds]) -> str:
    """Medians and the fastest run of both sides; the target is for the medians of wall time."""
    rows = []
    for what in Seconds._fields:
        ours, theirs = ([float(getattr(run, what)) for run in side] for side in (plugin, plain))
        more = difference(ours, theirs)
        judged = what == "wall"
        rows += [
            (
                f"{what}, median",
                f"{statistics.median(ours):.3f}",
                f"{statistics.median(theirs):.3f}",
                f"{more:+.3f}",
                f"at most {TARGET_SECONDS} s" if judged else "",
                against(more, TARGET_SECONDS, "s") if judged else "",
            ),
            (f"{what}, fastest", f"{min(ours):.3f}", f"{min(theirs):.3f}", f"{min(ours) - min(theirs):+.3f}", "", ""),
        ]
    return table(("seconds", "with plugin:", "plain pytest:", "difference:", "target:", "result"), rows)


def packages_table(packages: Sequence[Package]) -> str:
    """The costliest packages, then all the others in one line."""
    shown, rest = packages[:_PACKAGES_SHOWN], packages[_PACKAGES_SHOWN:]
    rows = [
        (f"`{p.name}`", f"{1000 * p.seconds:.0f}", str(p.modules), f"`{p.importer}`" if p.importer else "")
        for p in shown
    ]
    if rest:
        total, modules = sum(p.seconds for p in rest), sum(p.modules for p in rest)
        rows.append((f"{len(rest)} others", f"{1000 * total:.0f}", str(modules), ""))
    return table(("package", "own import, ms:", "modules:", "imported by"), rows)


# ---- The command


def main(argv: Sequence[str]) -> int:
    from harness.pipeline.identity import provenance

    parser = argparse.ArgumentParser(prog="collection.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="of each side, in turn (7)")
    add_date(parser)
    chosen = parser.parse_args(argv)
    if chosen.runs < 1:
        parser.error(f"--runs must be at least 1, got {chosen.runs}")
    counts = test_counts(ROOT / "suites")
    tests = sum(counts.values())
    with tempfile.TemporaryDirectory(prefix="collection-benchmark-") as temporary:
        env = environment(Path(temporary) / "compiled", os.environ)
        plugin = Side("with the plugin", ROOT, (), env)
        plain = Side("plain pytest", Path(temporary) / "plain", ("-p", f"no:{_PLUGIN}"), env)
        write_plain(plain.folder, counts, addopts=_addopts(ROOT))
        try:
            ours, theirs = in_turn(plugin, plain, runs=chosen.runs, tests=tests)
            packages = added_packages(imports_of(plugin, runs=_IMPORT_RUNS), imports_of(plain, runs=_IMPORT_RUNS))
        except BenchmarkError as error:
            print(f"collection.py: {error}", file=sys.stderr)
            return 1
    print(f"`pytest suites/ --collect-only -q`: {tests} tests in {len(counts)} files, {chosen.runs} runs each, in turn")
    print(f"\n{machine_line(provenance(ROOT, os.environ), chosen.date)}")
    print(f"\n{times_table(ours, theirs)}")
    print(f"\nImports that only the plugin's run makes, each module's fastest of {_IMPORT_RUNS} runs:\n")
    print(packages_table(packages))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
