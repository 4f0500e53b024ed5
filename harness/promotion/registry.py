"""Which adapter of a recipe is live, on what evidence, and every move there ever was.

    <store>/registry/<recipe>/versions/<n>/adapter/           the promoted files, a copy of their own
                              versions/<n>/attestation.json   the evidence, with the sha256 of each file
                              history/<n>.json                one move of an alias; the truth
                              aliases/<alias>.json            the last move of an alias, for other programs
                              lock

A history file has the sha256 of the one before it and of the attestation that it moves to, so whatever is changed
afterwards is found. Nothing is rewritten but the alias files, which follow the history.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.durable import sync_folder, write_synced
from harness.errors import PromotionError, StoreError
from harness.promotion.attestation import Statement, read_envelope
from harness.promotion.files import ATTESTATION, differences

__all__ = ["DEFAULT_ALIAS", "Move", "Registry", "Version", "check_alias", "promoted_digests", "recipes_in"]

DEFAULT_ALIAS = "production"
_REGISTRY = "registry"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_RECIPE = re.compile(r"[a-z0-9_]+")
_NEW = ".new-"


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias. version: what it points at since; before: what it pointed at, None for the first."""

    counter: int
    kind: Literal["promotion", "rollback"]
    alias: str
    version: int
    before: int | None
    time: str
    reason: str
    run: str
    adapter_digest: str
    attestation: str


@dataclass(frozen=True, slots=True)
class Version:
    """A promoted adapter. folder: of its files. statement: what was attested of it."""

    number: int
    folder: Path
    statement: Statement

    @property
    def adapter_digest(self) -> str:
        return str(self.statement.predicate["adapter"]["digest"])


def check_alias(alias: str) -> str:
    """`alias`, if it can be a file's name. Raises PromotionError."""
    if not _NAME.fullmatch(alias):
        raise PromotionError(f"an alias is small letters, digits, '-', '_' and '.', got {alias!r}")
    return alias


def recipes_in(store: Path) -> tuple[str, ...]:
    """The recipes that something was promoted of."""
    try:
        return tuple(sorted(p.parent.name for p in (store / _REGISTRY).glob("*/history") if any(p.iterdir())))
    except OSError as error:
        raise _unreadable(store / _REGISTRY, error) from error


def promoted_digests(store: Path) -> frozenset[str]:
    """The digests of all adapters that were ever promoted: what is known of them must not be freed."""
    return frozenset(move.adapter_digest for name in recipes_in(store) for move in Registry(store, name).history())


class Registry:
    """The promotions of one recipe; the folder is made on first write."""

    def __init__(self, store: Path, recipe: str) -> None:
        if not _RECIPE.fullmatch(recipe):
            raise PromotionError(f"a recipe's name is small letters, digits and '_', got {recipe!r}")
        self.recipe = recipe
        self.folder = store / _REGISTRY / recipe

    def history(self) -> tuple[Move, ...]:
        """Every move, oldest first. Raises StoreError if one was changed, removed or cannot be read."""
        return tuple(move for move, _ in self._chain())

    def live(self, alias: str) -> Move | None:
        """The last move of an alias: what it points at now. None before the first promotion."""
        return next((move for move in reversed(self.history()) if move.alias == alias), None)

    def last_promotion(self, alias: str) -> Move | None:
        """The last promotion to an alias, also where it was rolled back since."""
        moves = reversed(self.history())
        return next((move for move in moves if move.alias == alias and move.kind == "promotion"), None)

    def previous(self, alias: str) -> int | None:
        """The version to roll back to: what was live before the one that is. None where there is none.

        After two promotions and a rollback that is the one before both, not the one that was just left.
        """
        stack: list[int] = []
        for move in self.history():
            if move.alias != alias:
                continue
            if move.kind == "rollback" and move.version in stack:
                del stack[stack.index(move.version) + 1 :]
            else:
                stack.append(move.version)
        return stack[-2] if len(stack) > 1 else None

    def version(self, number: int) -> Version:
        """A version, its attestation checked against the history. Raises StoreError if it is not as promoted."""
        move = next((m for m in self.history() if m.version == number), None)
        if move is None:
            known = ", ".join(sorted({str(m.version) for m in self.history()}, key=int)) or "none"
            raise PromotionError(f"{self.recipe}: there is no version {number}; there is: {known}")
        return self._version(move)

    def _version(self, move: Move) -> Version:
        folder = self.folder / "versions" / str(move.version)
        file = folder / ATTESTATION
        text = _read(file)
        if _digest(text) != move.attestation:
            raise StoreError(f"{file}: was changed after the promotion; restore the store from a copy")
        try:
            return Version(move.version, folder / "adapter", read_envelope(text, str(file)))
        except PromotionError as error:
            raise StoreError(str(error)) from None

    def checked(self, number: int) -> Version:
        """As `version`, with every file of the adapter hashed. Raises StoreError if one is not as promoted."""
        version = self.version(number)
        wrong = differences(version.folder, version.statement.files)
        if wrong:
            raise StoreError(
                f"{version.folder}: is not what was promoted: {wrong[0]}. Restore the store from a copy, or roll back "
                f"with `harness rollback {self.recipe} --to VERSION`."
            )
        return version

    # Moves

    def promote(
        self,
        adapter: Path,
        files: Mapping[str, str],
        *,
        alias: str,
        expected: int | None,
        time: str,
        reason: str,
        run: str,
        adapter_digest: str,
        attest: Callable[[int], str],
    ) -> Move:
        """Copy an adapter into a new version and point the alias at it.

        files: name -> sha256 of the files of `adapter`; the copies are hashed. attest: the number of the version to
        the text of its attestation. expected: `counter` of the alias's last move when the evidence was checked, None
        if there was none. Raises PromotionError if it was moved since, StoreError if a copy differs or nothing can
        be written.
        """
        with self._writing(alias, expected) as chain:
            number = 1 + max((move.version for move, _ in chain), default=0)
            text = attest(number)
            work = self._work_folder()
            _copy(adapter, work / "adapter", files)
            write_synced(work / ATTESTATION, text)
            sync_folder(work)
            target = self.folder / "versions" / str(number)
            target.parent.mkdir(exist_ok=True)
            if target.exists():  # of a promotion that was killed before it got into the history
                shutil.rmtree(target)
            os.rename(work, target)
            sync_folder(target.parent)
            before = next((move.version for move, _ in reversed(chain) if move.alias == alias), None)
            move = Move(
                counter=len(chain) + 1,
                kind="promotion",
                alias=alias,
                version=number,
                before=before,
                time=time,
                reason=reason,
                run=run,
                adapter_digest=adapter_digest,
                attestation=_digest(text),
            )
            self._append(move, chain)
        return move

    def roll_back(self, version: Version, *, alias: str, expected: int | None, time: str, reason: str) -> Move:
        """Point the alias at a version that was promoted before. Raises as `promote`."""
        with self._writing(alias, expected) as chain:
            promoted = next(move for move, _ in chain if move.version == version.number)
            before = next(move.version for move, _ in reversed(chain) if move.alias == alias)
            move = Move(
                counter=len(chain) + 1,
                kind="rollback",
                alias=alias,
                version=version.number,
                before=before,
                time=time,
                reason=reason,
                run=promoted.run,
                adapter_digest=promoted.adapter_digest,
                attestation=promoted.attestation,
            )
            self._append(move, chain)
        return move

    @contextlib.contextmanager
    def _writing(self, alias: str, expected: int | None) -> Iterator[list[tuple[Move, str]]]:
        """Alone in this registry, with its history; what a killed process left is removed."""
        from filelock import FileLock

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                for left in self.folder.glob(f"{_NEW}*"):
                    shutil.rmtree(left, ignore_errors=True)
                chain = self._chain()
                last = next((move for move, _ in reversed(chain) if move.alias == alias), None)
                if (None if last is None else last.counter) != expected and last is not None:
                    raise PromotionError(
                        f"{self.recipe}: {alias} was moved to version {last.version} (run {last.run}, {last.kind} at "
                        f"{last.time}) while this was checked; look at it with `harness registry {self.recipe}`, then "
                        "try again"
                    )
                try:
                    yield chain
                finally:
                    for left in self.folder.glob(f"{_NEW}*"):
                        shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: the registry cannot be written ({error.strerror or error}); nothing was moved"
            ) from error

    def _work_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=_NEW, dir=self.folder))

    def _append(self, move: Move, chain: list[tuple[Move, str]]) -> None:
        """Into the history, which is what counts, and then into the alias file."""
        form = {**{name: getattr(move, name) for name in Move.__slots__}, "previous": chain[-1][1] if chain else None}
        text = json.dumps(form, indent=2) + "\n"
        self._write("history", f"{move.counter:06}.json", text)
        try:
            self._write("aliases", f"{move.alias}.json", text)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: {move.alias} is version {move.version} now, but its copy in aliases/ cannot be "
                f"written ({error.strerror or error}); the next move writes it"
            ) from error

    def _write(self, folder: str, name: str, text: str) -> None:
        work = self._work_folder() / name
        write_synced(work, text)
        target = self.folder / folder / name
        target.parent.mkdir(exist_ok=True)
        # Where the lock of a network file system lets two in, the second must not overwrite the first.
        if folder == "history" and target.exists():
            raise StoreError(f"{target}: was written by another process meanwhile; try again")
        os.replace(work, target)
        sync_folder(target.parent)

    def _chain(self) -> list[tuple[Move, str]]:
        """Every move with the sha256 of its file."""
        folder = self.folder / "history"
        try:
            names = sorted(path.name for path in folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(folder, error) from error
        chain: list[tuple[Move, str]] = []
        for counter, name in enumerate(names, 1):
            file = folder / name
            text = _read(file)
            try:
                form = json.loads(text)
                previous = form.pop("previous")
                move = Move(**form)
            except (ValueError, TypeError, KeyError, AttributeError):
                move, previous = None, None
            if move is None or move.counter != counter or previous != (chain[-1][1] if chain else None):
                raise StoreError(
                    f"{file}: does not follow from the move before it, so the history was changed; restore the store "
                    "from a copy"
                )
            chain.append((move, _digest(text)))
        self._check_end(len(chain))
        return chain

    def _check_end(self, length: int) -> None:
        """An alias that was moved further than the history goes tells that its end was removed."""
        for file in (self.folder / "aliases").glob("*.json"):
            try:
                counter = json.loads(_read(file))["counter"]
            except (ValueError, TypeError, KeyError):
                continue  # only a copy, and written again by the next move
            if isinstance(counter, int) and counter > length:
                raise StoreError(
                    f"{file}: is move {counter}, and the history has {length}, so its end was removed; restore the "
                    "store from a copy"
                )


def _copy(source: Path, target: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, copy)
        with copy.open("rb+") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise StoreError(f"{source / name}: was changed while it was promoted; nothing was promoted")
            os.fsync(stream.fileno())
        sync_folder(copy.parent)


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "backslashreplace")
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(place: Path, error: OSError) -> StoreError:
    return StoreError(f"{place}: the registry cannot be read ({error.strerror or error}); check the place")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
