"""The command `harness`: one module a command. Importing it loads nothing beyond the standard library."""

from __future__ import annotations

from harness.cli.entry import main

__all__ = ["main"]
