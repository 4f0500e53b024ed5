"""`harness promote`: what a recorded run proves becomes what is live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.following import follow
from harness.cli.history import add_store, store_of
from harness.cli.output import Output, shown
from harness.cli.project import find_project
from harness.cli.usage import OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.pipeline.promoting import Promotion

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "promote",
        help="promote the adapter that a run measured",
        description="Check that a recorded run proves the recipe's adapter good enough, for exactly these bytes, data "
        "and suites, and that no gate asks less than at the last promotion; then point the alias at it.",
        allow_abbrev=False,
    )
    parser.add_argument("run_named", metavar="RUN", help="the run's id, the beginning of it, or latest")
    parser.add_argument("--recipe", metavar="NAME", required=True, help="the recipe whose adapter is promoted")
    parser.add_argument("--alias", metavar="NAME", default="production", help="what to move (default: production)")
    parser.add_argument("--first", action="store_true", help="nothing was promoted to the alias before")
    parser.add_argument(
        "--accept-policy-change", metavar="REASON", help="why gates may ask less than at the last promotion; recorded"
    )
    parser.add_argument(
        "--max-age", metavar="AGE", default="7d", help="how old the run may be: a number and s, m, h or d (default: 7d)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.pipeline.promoting import promote
    from harness.pipeline.session import Places
    from harness.promotion import age_from

    reason: str | None = arguments.accept_policy_change
    if reason is not None and not reason.strip():
        raise CommandError("--accept-policy-change needs a reason; it is kept with the promotion")
    project = find_project(Path.cwd())
    places = Places.below(project.root, recipes=project.folder("recipes"), store=store_of(arguments))
    done = promote(
        places,
        arguments.run_named,
        arguments.recipe,
        alias=arguments.alias,
        first=arguments.first,
        accepted=reason,
        max_age=age_from(arguments.max_age),
        environ=os.environ,
    )
    _print(arguments, done, output)
    follow(project.root, arguments.recipe, done.move, done.folder, output, quiet=arguments.json)
    return OK


def _print(arguments: Any, done: Promotion, output: Output) -> None:
    move = done.move
    if arguments.json:
        output.values(
            {
                "recipe": arguments.recipe,
                "alias": move.alias,
                "version": move.version,
                "before": move.before,
                "run": move.run,
                "adapter_digest": move.adapter_digest,
                "folder": str(done.folder),
                "policy_changes": list(done.changes),
                "signed_by": done.keyid,
            }
        )
        return
    before = "the first" if move.before is None else f"was version {move.before}"
    output.line(f"{arguments.recipe}: {move.alias} is version {move.version} now ({before}), by run {move.run}")
    output.line(f"adapter {move.adapter_digest[:12]} in {shown(done.folder)}")
    for change in done.changes:
        output.line(f"accepted: {change}")
    if done.keyid is None:
        output.line("the attestation is not signed: neither HARNESS_SIGNING_KEY nor HARNESS_SIGNING_KEY_FILE is set")
    else:
        output.line(f"the attestation is signed by key {done.keyid[:12]}")
