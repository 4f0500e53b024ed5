"""`harness registry`: what is live, since when, and on what evidence."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.cli.history import add_store, store_of
from harness.cli.output import Output, shown
from harness.cli.usage import OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.promotion import Move, Registry, Version

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "registry",
        help="what is live, since when, on what evidence",
        description="Print the promoted adapter of each recipe and alias; of one recipe also its gates and every move.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="one recipe, in full (default: all, one line each)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.promotion import Registry, recipes_in

    store = store_of(arguments)
    names = recipes_in(store)
    if arguments.recipe is not None and arguments.recipe not in names:
        known = ", ".join(names) or "none"
        raise CommandError(f"nothing of {arguments.recipe!r} was promoted in {shown(store)}; promoted recipes: {known}")
    chosen = names if arguments.recipe is None else (arguments.recipe,)
    registries = [Registry(store, name) for name in chosen]
    if arguments.json:
        output.values({"recipes": [_values(registry) for registry in registries]})
        return OK
    if not names:
        output.line(f"nothing was promoted in {shown(store)} yet")
    for registry in registries:
        for line in _lines(registry, in_full=arguments.recipe is not None):
            output.line(line)
    return OK


def _live(registry: Registry) -> list[tuple[Move, Version]]:
    """The last move of each alias, and the version that it points at."""
    last: dict[str, Move] = {move.alias: move for move in registry.history()}
    return [(last[alias], registry.version(last[alias].version)) for alias in sorted(last)]


def _values(registry: Registry) -> dict[str, Any]:
    return {
        "recipe": registry.recipe,
        "live": [
            {
                "alias": move.alias,
                "version": version.number,
                "since": move.time,
                "folder": str(version.folder),
                "signed_by": list(version.statement.keyids),
                "evidence": dict(version.statement.predicate),
            }
            for move, version in _live(registry)
        ],
        "history": [dataclasses.asdict(move) for move in registry.history()],
    }


def _lines(registry: Registry, *, in_full: bool) -> Iterator[str]:
    for move, version in _live(registry):
        evidence = version.statement.predicate
        signed = f"signed by {version.statement.keyids[0][:12]}" if version.statement.keyids else "not signed"
        yield (
            f"{registry.recipe}  {move.alias}  version {move.version} since {move.time}, run {move.run}, "
            f"{_gates(evidence)}, adapter {version.adapter_digest[:12]}, {signed}"
        )
        if in_full:
            yield f"  {shown(version.folder)}"
            for gate in evidence["gates"]:
                value = "not measured" if gate["value"] is None else f"{gate['value']:.3f} on {gate['n']} examples"
                yield f"  {gate['outcome']}  {gate['id']}: {gate['rule']}; {value}"
            policy = evidence["policy"]
            for change in policy["changes"]:
                yield f"  accepted: {change} ({policy['accepted']})"
    for move in registry.history() if in_full else ():
        before = "the first" if move.before is None else f"was {move.before}"
        why = f": {move.reason}" if move.reason else ""
        yield f"  {move.counter}. {move.time}  {move.kind}  {move.alias} is version {move.version} ({before}){why}"


def _gates(evidence: Mapping[str, Any]) -> str:
    counts = Counter(gate["outcome"] for gate in evidence["gates"])
    passed = f"{counts.pop('pass', 0)} of {len(evidence['gates'])} gates passed"
    return ", ".join([passed, *(f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items())])
