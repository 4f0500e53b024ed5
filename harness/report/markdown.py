"""Text that nobody here wrote, inside Markdown."""

from __future__ import annotations

import re

__all__ = ["escape"]

_SPECIAL = re.compile(r"[\\`*_\[\]#!|~$]")


def escape(text: str) -> str:
    """`text`, on one line already, as Markdown that reads the same."""
    escaped = _SPECIAL.sub(r"\\\g<0>", text.replace("&", "&amp;")).replace("<", "&lt;")
    # A mention, and a bare address, need these characters side by side in the source.
    escaped = re.sub(r"@(?=\w)", "@\u200b", escaped)
    escaped = escaped.replace("://", "&#58;//").replace("www.", "www&#46;")
    # GitHub reads a command from a line that starts with two colons.
    return escaped.replace("::", ":&#58;")
