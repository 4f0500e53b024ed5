"""`harness verify`: is this directory the promoted adapter? For a server to ask before it loads one.

Nothing but the standard library is imported where no key is given, and only `cryptography` where one is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.history import add_store, store_of
from harness.cli.output import Output, shown
from harness.cli.usage import OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.promotion import Registry

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "verify",
        help="tell whether a directory is the promoted adapter",
        description="Hash every file of a directory. Exit code 0: it is what the alias points at in the store or, with "
        "--key, what an attestation beside it says, signed with that key. Exit code 1: it is not.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="the adapter's directory")
    parser.add_argument("--recipe", metavar="NAME", help="the recipe that it has to be of (default: any)")
    parser.add_argument("--alias", metavar="NAME", default="production", help="the alias (default: production)")
    parser.add_argument(
        "--key", metavar="FILE", type=Path, help="an Ed25519 public key: ask the attestation, and no store"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    folder: Path = arguments.directory
    if not folder.is_dir():
        raise CommandError(f"{shown(folder)}: is no directory")
    find = _by_registry if arguments.key is None else _by_attestation
    recipe, evidence, how = find(folder, arguments)
    version = evidence["promotion"]["version"]
    if arguments.json:
        run_id, digest = evidence["run"]["id"], evidence["adapter"]["digest"]
        output.values({"recipe": recipe, "version": version, "run": run_id, "adapter_digest": digest})
    else:
        output.line(f"{shown(folder)}: is version {version} of {recipe}, {how}, by run {evidence['run']['id']}")
    return OK


def _by_attestation(folder: Path, arguments: Any) -> tuple[str, Any, str]:
    """Recipe and evidence by the attestation beside the files. Raises PromotionError if it is another adapter."""
    from harness.errors import PromotionError
    from harness.promotion import differences, find_attestation, public_key, read_envelope

    key = public_key(arguments.key)
    file = find_attestation(folder)
    if file is None:
        raise PromotionError(f"{shown(folder)}: there is no attestation.json in it or beside it")
    statement = read_envelope(file.read_bytes().decode("utf-8", "backslashreplace"), shown(file), key)
    evidence = statement.predicate
    wrong = [f"{shown(folder)}: {difference}" for difference in differences(folder, statement.files)]
    if arguments.recipe not in (None, evidence["recipe"]):
        wrong.append(f"{shown(file)}: is about recipe {evidence['recipe']}, not {arguments.recipe}")
    if arguments.alias != evidence["promotion"]["alias"]:
        wrong.append(f"{shown(file)}: was promoted to {evidence['promotion']['alias']}, not {arguments.alias}")
    if wrong:
        raise PromotionError(wrong)
    return evidence["recipe"], evidence, f"promoted to {arguments.alias}, as signed"


def _by_registry(folder: Path, arguments: Any) -> tuple[str, Any, str]:
    """Recipe and evidence by the registry in the store. Raises PromotionError if it is another adapter."""
    from harness.errors import PromotionError
    from harness.promotion import Registry, check_alias, differences, recipes_in

    store = store_of(arguments)
    alias = check_alias(arguments.alias)
    names = recipes_in(store) if arguments.recipe is None else (arguments.recipe,)
    live = {name: move for name in names if (move := Registry(store, name).live(alias)) is not None}
    if not live:
        of = "" if arguments.recipe is None else f" of {arguments.recipe}"
        raise PromotionError(f"{shown(store)}: nothing{of} was promoted to {alias}")
    wrong: list[str] = []
    for name, move in live.items():
        registry = Registry(store, name)
        version = registry.version(move.version)
        # A manifest is of one training alone: where it is another, there is no need to hash weights.
        if len(live) > 1 and differences(folder, _manifest(version.statement.files), added=True):
            continue
        found = differences(folder, version.statement.files)
        if not found:
            return name, version.statement.predicate, f"{alias} since {move.time}"
        wrong += [f"{shown(folder)}: {difference}" for difference in found]
        earlier = _earlier(registry, folder, move.version)
        if earlier is not None:
            wrong.append(f"{shown(folder)}: is version {earlier} of {name}, and {alias} is version {move.version}")
    raise PromotionError(wrong or f"{shown(folder)}: is not the {alias} adapter of any of: {', '.join(live)}")


def _earlier(registry: Registry, folder: Path, live: int) -> int | None:
    """Another version that these files are, if any."""
    from harness.promotion import differences

    for number in sorted({move.version for move in registry.history()} - {live}, reverse=True):
        files = registry.version(number).statement.files
        if not differences(folder, _manifest(files), added=True) and not differences(folder, files):
            return number
    return None


def _manifest(files: Any) -> dict[str, str]:
    return {"manifest.json": files["manifest.json"]}
