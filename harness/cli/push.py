"""`harness push`: a promoted adapter, its card and its attestation go to the Hugging Face hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.card import add_card_options, store_of
from harness.cli.output import Output
from harness.cli.usage import OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "push",
        help="upload a promoted adapter to the Hugging Face hub",
        description="Upload the adapter that a run promoted, its attestation and its model card in one commit. The "
        "token and the hub's address are huggingface_hub's: `hf auth login` or HF_TOKEN, and HF_ENDPOINT.",
        allow_abbrev=False,
    )
    parser.add_argument("run_named", metavar="RUN", help="the run's id, the beginning of it, or latest")
    parser.add_argument("repo", metavar="REPO", help="the repository, such as someone/tickets; made if it is not there")
    add_card_options(parser)
    parser.add_argument("--revision", metavar="BRANCH", help="the branch (default: main); made if it is not there")
    parser.add_argument("--private", action="store_true", help="make the repository private, if it is not there yet")
    parser.add_argument("--dry-run", action="store_true", help="print what would be uploaded, and send nothing")
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    from harness.pipeline.publishing import send, upload_of

    try:
        validate_repo_id(arguments.repo)
    except HFValidationError as error:
        raise CommandError(f"REPO is a name such as someone/tickets: {error}") from None
    upload = upload_of(
        store_of(arguments), arguments.run_named, arguments.recipe, repo=arguments.repo, license=arguments.license
    )
    for file in upload.files:
        output.line(f"{file.sha256[:12]}  {file.size:>13,}  {file.name}")
    total = sum(file.size for file in upload.files)
    what = f"{upload.recipe} version {upload.version} ({upload.alias}), {len(upload.files)} files, {total:,} bytes"
    if arguments.dry_run:
        output.line(f"would go to {arguments.repo}: {what}")
        return OK
    private = True if arguments.private else None
    output.line(f"{what}: {send(upload, arguments.repo, private=private, revision=arguments.revision)}")
    return OK
