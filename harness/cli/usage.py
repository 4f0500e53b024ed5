"""What commands have in common: what they are declared to, how they end, the error of a wrong call."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["FAILURE", "INTERRUPTED", "OK", "PIPE_CLOSED", "USAGE", "CommandError"]

OK = 0
FAILURE = 1
USAGE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141  # 128 + SIGPIPE: how other programs end when their reader is gone


class CommandError(HarnessError):
    """The command was called in a way that cannot work: exit code USAGE."""
