"""The error of a wrong call."""

from __future__ import annotations

from harness.errors import HarnessError

__all__ = ["CommandError"]


class CommandError(HarnessError):
    """The command was called in a way that cannot work: exit code 2."""
