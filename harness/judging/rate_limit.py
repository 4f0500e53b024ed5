"""How fast calls may follow each other: a token bucket, which a server's retry-after closes for a while."""

from __future__ import annotations

import threading
import time

__all__ = ["TokenBucket"]


class TokenBucket:
    """Lets through `per_minute` calls a minute, `burst` of them at once; safe for several threads.

    per_minute: None sets no limit of its own; a pause is heeded all the same.
    """

    def __init__(self, per_minute: float | None = None, *, burst: int = 1) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._tolerance = self._interval * (burst - 1)
        self._due = 0.0  # when the bucket will be full again, on the clock of time.monotonic
        self._paused_until = 0.0
        self._lock = threading.Lock()

    def pause(self, seconds: float) -> None:
        """Nothing passes for so long: a server asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    @property
    def paused(self) -> float:
        """Seconds until the pause is over, or 0."""
        return max(0.0, self._paused_until - time.monotonic())

    def acquire(self, ends: float, stopped: threading.Event) -> bool:
        """Wait for a token. False at once where none comes before the time `ends`, and when `stopped` is set."""
        with self._lock:
            at = max(time.monotonic(), self._due - self._tolerance, self._paused_until)
            if at > ends:
                return False
            self._due = max(self._due, at) + self._interval
        while True:
            wait = at - time.monotonic()
            if wait > 0 and stopped.wait(wait):
                return False
            with self._lock:
                at = self._paused_until  # a pause that began meanwhile
            if at <= time.monotonic():
                return not stopped.is_set()
            if at > ends:
                return False
