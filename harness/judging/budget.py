"""How much money the judging of a run may cost."""

from __future__ import annotations

import threading
import time

__all__ = ["Budget"]

_STEP = 0.5  # seconds between looks at whether the waiting is over


class Budget:
    """A hard limit in USD, over all judges and recipes of a run; safe for several threads.

    What a call can cost at most is reserved before it is made, and replaced afterwards by what it did cost. So the
    limit holds for the calls under way too. limit: None sets none, and the money is only added up.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self._spent = 0.0
        self._reserved = 0.0
        self._under_way = 0
        self._reached = False
        self._changed = threading.Condition()

    @property
    def spent(self) -> float:
        """USD of the calls that ended."""
        return self._spent

    def reserve(self, most: float, *, ends: float) -> bool:
        """Set aside `most` USD; False where the budget is reached, from then on for every call.

        Waits while calls under way hold reservations that may turn out too high, at most until the time `ends` of
        time.monotonic.
        """
        with self._changed:
            while True:
                if self._reached:
                    return False
                if self.limit is None or self._spent + self._reserved + most <= self.limit:
                    self._reserved += most
                    self._under_way += 1
                    return True
                if self._under_way == 0 or time.monotonic() >= ends:
                    self._reached = self._under_way == 0
                    return False
                self._changed.wait(_STEP)

    def settle(self, reserved: float, actual: float) -> None:
        """A call that had `reserved` USD set aside ended and cost `actual`."""
        with self._changed:
            self._reserved -= reserved
            self._under_way -= 1
            self._spent += actual
            if self._under_way == 0:
                self._reserved = 0.0  # the rest is rounding
            self._changed.notify_all()

    def add(self, actual: float) -> None:
        """Money that was spent without a reservation of this run, e.g. for a batch that an earlier run began."""
        with self._changed:
            self._spent += actual
            self._changed.notify_all()

    def reason(self) -> str:
        """Why an answer has no grade once the budget is reached."""
        return (
            f"the judge's budget of ${self.limit or 0.0:,.2f} does not allow another call (spent ${self._spent:,.4f})"
        )
