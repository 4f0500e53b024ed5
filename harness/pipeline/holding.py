"""The one model that a run holds: the base, and on it the adapter of the view that is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, ScoringError

if TYPE_CHECKING:
    from harness.engine.models import LoadedModel

__all__ = ["HeldModel"]


class HeldModel:
    """Loaded on first use, by `load`, and again after `close`."""

    def __init__(self, load: Callable[[], LoadedModel]) -> None:
        self._load = load
        self._loaded: LoadedModel | None = None
        self._attached: Path | None = None

    @contextlib.contextmanager
    def answering(self, folder: Path | None) -> Iterator[tuple[LoadedModel, Any]]:
        """The loaded model, and the module that answers for the adapter in `folder`, or for the base without one."""
        loaded = self._base() if folder is None else self.with_adapter(folder)
        switched: AbstractContextManager[Any] = loaded.base_view() if folder is None else loaded.adapter_view()
        with switched as model:
            yield loaded, model

    def with_adapter(self, folder: Path) -> LoadedModel:
        """The model with this adapter on it. Raises ScoringError, and closes the model, if it does not fit.

        A model takes one adapter, as taking it off again would leave traces: for another one the base is loaded anew.
        """
        if self._attached not in (None, folder):
            self.close()
        loaded = self._base()
        if loaded.has_adapter:
            return loaded
        try:
            loaded.attach(folder)
        except Exception as error:
            self.close()  # some of the adapter may be on the model already, and it would answer as the base
            if isinstance(error, HarnessError):
                raise
            # Of what PEFT raises for a wrong shape, type or configuration, no two are of one class.
            found = " ".join(str(error).split())
            raise ScoringError(f"{folder}: PEFT cannot load this adapter ({type(error).__name__}: {found})") from error
        self._attached = folder
        return loaded

    def close(self) -> None:
        """Give the model's memory back."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
            self._attached = None

    def _base(self) -> LoadedModel:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded
