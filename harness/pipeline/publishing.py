"""From a promoted adapter to a repository of the Hugging Face hub: which files, and the upload."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HubError
from harness.promotion import ATTESTATION, Move, Registry
from harness.records import RecipeResult, Run
from harness.report import card_md, read_report
from harness.store import read_run

__all__ = ["CARD", "Upload", "UploadFile", "described", "send", "upload_of"]

CARD = "README.md"
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class UploadFile:
    """name: in the repository. content: a file, or bytes that lie nowhere. size: bytes."""

    name: str
    content: Path | bytes
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What a push sends: the promoted files as they are, the attestation, and the card as README.md."""

    recipe: str
    alias: str
    version: int
    run_id: str
    files: tuple[UploadFile, ...]


def described(store: Path, run_named: str, name: str | None) -> tuple[Run, RecipeResult]:
    """A recorded run, and its recipe `name`, or its only one.

    Raises StoreError if there is no such run or its record was changed, HubError if the recipe is not clear.
    """
    run = read_report(read_run(store, run_named).report_text)
    known = ", ".join(recipe.name for recipe in run.recipes) or "none"
    if name is None and len(run.recipes) == 1:
        return run, run.recipes[0]
    if name is None:
        raise HubError(f"run {run.run_id} has {len(run.recipes)} recipes; choose one with --recipe: {known}")
    for recipe in run.recipes:
        if recipe.name == name:
            return run, recipe
    raise HubError(f"run {run.run_id} has no recipe {name!r}; it has: {known}")


def upload_of(store: Path, run_named: str, name: str | None, *, repo: str, license: str | None = None) -> Upload:
    """The files of the adapter that an alias points at by this run's evidence, hashed again.

    The card lies nowhere but in the upload, so that the adapter's files stay as they were promoted.
    Raises HubError, with the command to type, for a run whose adapter is not live, and StoreError where the record
    or the registry is damaged.
    """
    run, recipe = described(store, run_named, name)
    registry = Registry(store, recipe.name)
    move = _live(registry, run, recipe)
    version = registry.checked(move.version)
    files = [_on_disk(name, version.folder / name, digest) for name, digest in version.statement.files.items()]
    attestation = (version.folder.parent / ATTESTATION).read_bytes()
    card = card_md(run, recipe.name, license=license, repo=repo).encode()
    for added, content in ((CARD, card), (ATTESTATION, attestation)):
        if added in version.statement.files:
            raise HubError(
                f"{recipe.name}: version {move.version} was promoted with a file {added} of its own, which must not be "
                "replaced; promote it again with this version of the harness"
            )
        files.append(UploadFile(added, content, len(content), hashlib.sha256(content).hexdigest()))
    files.sort(key=lambda file: file.name)
    return Upload(recipe.name, move.alias, move.version, run.run_id, tuple(files))


def send(upload: Upload, repo: str, *, private: bool | None = None, revision: str | None = None) -> str:
    """Upload in one commit and return its address. The hub, its address and the token are huggingface_hub's.

    private: of a repository that is made; None leaves it to the hub. revision: a branch, made if it is not there.
    Raises HubError with the hub's reason.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    operations = [CommitOperationAdd(file.name, file.content) for file in upload.files]
    for operation, file in zip(operations, upload.files, strict=True):
        if operation.upload_info.sha256.hex() != file.sha256:
            raise HubError(f"{file.content!s}: was changed while it was uploaded; nothing was uploaded")
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo,
            operations,
            commit_message=f"{upload.recipe}: version {upload.version}, by run {upload.run_id}",
            revision=revision,
        )
    except OfflineModeIsEnabled:
        raise HubError(f"{repo}: HF_HUB_OFFLINE is set; unset it to upload") from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else None
        hint = "; log in with `hf auth login`, or set HF_TOKEN to a token that may write" if code in (401, 403) else ""
        raise HubError(f"{repo}: the hub refused ({_reason(error)}){hint}") from None
    except Exception as error:
        # What else comes is the HTTP client's, whose exceptions are not huggingface_hub's to name, or of its checks.
        raise HubError(f"{repo}: nothing was uploaded ({_reason(error)})") from error
    return str(commit.commit_url)


def _live(registry: Registry, run: Run, recipe: RecipeResult) -> Move:
    """The alias that points at what this run promoted. Raises HubError if none does."""
    history = registry.history()
    aliases = dict.fromkeys(move.alias for move in history)
    live = [move for alias in aliases if (move := registry.live(alias)) is not None]
    same = [move for move in live if move.adapter_digest == recipe.adapter_digest]
    for move in same:
        if move.run == run.run_id:
            return move
    name = recipe.name
    if same:
        raise HubError(
            f"{name}: the adapter was promoted by run {same[0].run}, and the attestation is of that one; push it with "
            f"`harness push {same[0].run} REPO --recipe {name}`"
        )
    left = _promoted_before(history, run)
    if left is not None:
        raise HubError(
            f"{name}: version {left.version}, of run {run.run_id}, is not live any more; make it so with "
            f"`harness rollback {name} --alias {left.alias} --to {left.version}`, or push the run that is"
        )
    raise HubError(
        f"{name}: the adapter of run {run.run_id} is not promoted; promote it with "
        f"`harness promote {run.run_id} --recipe {name}`"
    )


def _promoted_before(history: Iterable[Move], run: Run) -> Move | None:
    return next((move for move in history if move.kind == "promotion" and move.run == run.run_id), None)


def _on_disk(name: str, file: Path, digest: str) -> UploadFile:
    return UploadFile(name, file, file.stat().st_size, digest)


def _reason(error: Exception) -> str:
    """What a library says, on one line. A refused header would be in it, and with it the token."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"(?<=Bearer )[^'\"]+", "***", text)[:_LONGEST_REASON].rstrip(".")
