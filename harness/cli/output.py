"""Everything that the commands print goes through here.

Recipes, reports and file names hold text that others wrote. A terminal must not obey its control characters,
and a GitHub job must not obey a workflow command that stands at the start of a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from harness.errors import HarnessError, ProblemsError

__all__ = ["Output", "lines_of", "shown"]

# The two forms of workflow commands: at the start of a line, and the older one anywhere in it.
_WORKFLOW_COMMAND = re.compile(r"^(\s*:)(?=:)|(##)(?=\[)", re.MULTILINE)


class Output:
    """Results go to `out`, problems to `err`."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def line(self, text: str) -> None:
        """One line of a result."""
        _write(self._out, f"{_one_line(text)}\n")

    def problem(self, text: str) -> None:
        """One line that says what is wrong."""
        _write(self._err, f"{_one_line(text)}\n")

    def error(self, error: HarnessError) -> None:
        """Why the command cannot go on, one line a problem."""
        for line in lines_of(error):
            self.problem(f"error: {line}")

    def values(self, values: Mapping[str, Any], *, as_yaml: bool = False) -> None:
        """JSON values as a document that a program can read back.

        Where the plain document would hold something to hide, it is written in ASCII with every text in
        quotes: there each character can be escaped, and reads back the same.
        """
        write = _yaml if as_yaml else _json
        document = write(values, quoted=False)
        encodable = _encodable(self._out, document) == document
        if not encodable or _visible(document) != document or _WORKFLOW_COMMAND.search(document):
            document = write(values, quoted=True).replace("##[", "#\\u0023[")
        _write(self._out, f"{document.rstrip()}\n")

    def writes(self, text: str) -> bool:
        """Whether results can have these characters."""
        return _encodable(self._out, text) == text

    def flush(self) -> None:
        self._out.flush()
        self._err.flush()

    def discard(self) -> None:
        """After a closed pipe: what is still buffered must not fail once more when Python ends."""
        for stream in (self._out, self._err):
            with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
                descriptor = stream.fileno()
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def lines_of(error: HarnessError) -> Iterator[str]:
    """The problems that an error carries, or its text."""
    yield from error.problems if isinstance(error, ProblemsError) else (str(error),)


def shown(path: Path) -> str:
    """A path as messages name it: relative to the working directory where it lies below that."""
    path = Path(os.path.abspath(path))
    with contextlib.suppress(ValueError, OSError):
        return path.relative_to(Path.cwd()).as_posix()
    return path.as_posix()


def _one_line(text: str) -> str:
    line = _visible(text).replace("\n", "␊")
    return _WORKFLOW_COMMAND.sub(r"\1\2 ", line)


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    # Imported here: most output needs nothing of it.
    from harness.report.wording import visible

    return visible(text)


def _encodable(stream: TextIO, text: str) -> str:
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _write(stream: TextIO, text: str) -> None:
    stream.write(_encodable(stream, text))


def _json(values: Mapping[str, Any], *, quoted: bool) -> str:
    return json.dumps(values, indent=2, ensure_ascii=quoted)


def _yaml(values: Mapping[str, Any], *, quoted: bool) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Keeps a text with line breaks on one line: none of its lines may start a line of the output."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = '"' if quoted or "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    document: str = yaml.dump(dict(values), Dumper=Dumper, sort_keys=False, allow_unicode=not quoted, width=sys.maxsize)
    return document
