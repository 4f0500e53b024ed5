"""Several adapters of one recipe, one a seed: trained one after another, and which of them would be promoted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.errors import TrainingError
from harness.records import ADAPTER, SeedResult
from harness.store import Adapter

__all__ = ["Seeded", "Trained", "seed_view"]


def seed_view(seed: int) -> str:
    """The view of an adapter that is not the one to promote."""
    return f"{ADAPTER}, seed {seed}"


class Trained(NamedTuple):
    """One seed's adapter. validation_loss: after its last epoch."""

    seed: int
    adapter: Adapter
    validation_loss: float
    from_store: bool


class Seeded:
    """The adapters of a recipe's seeds, in their order.

    The one to promote is that with the median validation loss, the lower of the two in the middle for an even number,
    the earlier seed of equals: fixed before anything is measured on the test set, and no pick of the luckiest.
    """

    def __init__(self, members: Sequence[Trained]) -> None:
        self.members = tuple(members)
        ranked = sorted(self.members, key=lambda one: one.validation_loss)
        self.chosen = ranked[(len(ranked) - 1) // 2]

    @classmethod
    def trained(cls, seeds: Sequence[int], train: Callable[[int], tuple[Adapter, bool]]) -> Seeded:
        """train: seed -> its adapter, and whether that was in the store. Raises what training raises."""
        members = []
        for seed in seeds:
            adapter, from_store = train(seed)
            members.append(Trained(seed, adapter, _validation_loss(adapter), from_store))
        return cls(members)

    @property
    def views(self) -> dict[str, Trained]:
        """View -> adapter, in the order of the seeds."""
        return {ADAPTER if one is self.chosen else seed_view(one.seed): one for one in self.members}

    def results(self) -> tuple[SeedResult, ...]:
        return tuple(
            SeedResult(one.seed, one.adapter.digest, one.validation_loss, one is self.chosen) for one in self.members
        )


def _validation_loss(adapter: Adapter) -> float:
    try:
        return float(adapter.manifest["validation_loss"][-1][1])
    except (KeyError, TypeError, ValueError, IndexError):
        raise TrainingError(
            f"{adapter.folder}: its manifest has no validation loss, by which one of several seeds is chosen. Remove "
            "the folder and run again, and it is trained anew."
        ) from None
