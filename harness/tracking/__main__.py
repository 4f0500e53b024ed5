"""The process of one tracker: a request on stdin, {"ok", "text"} on stdout."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, Protocol, cast

_PACKAGE = "pytest-adapter-harness"


class Tracker(Protocol):
    """What a module harness.tracking.<name>_tracker has. Both say where the copy is, in one line.

    run: recipes, files, started_at, duration_seconds as `dispatch.track_run` sends them; timeout in seconds.
    promotion: the fields of `facts.AliasMove`, paths as text.
    Whatever they raise is told to the user as the reason.
    """

    def keep_run(self, run: dict[str, Any], timeout: float) -> str: ...

    def keep_promotion(self, promotion: dict[str, Any], timeout: float) -> str: ...


def main(name: str) -> int:
    # Libraries print to stdout. The answer has a descriptor of its own, and the prints join the complaints.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        request = json.load(sys.stdin)
        tracker = cast(Tracker, importlib.import_module(f"harness.tracking.{name}_tracker"))
        if "run" in request:
            text = tracker.keep_run(request["run"], request["timeout"])
        else:
            text = tracker.keep_promotion(request["promotion"], request["timeout"])
        ok = True
    except ImportError as error:
        ok, text = False, f"not installed ({error}); install it with `pip install '{_PACKAGE}[{name}]'`"
    except (Exception, SystemExit) as error:
        ok, text = False, f"{error}" or type(error).__name__
    json.dump({"ok": ok, "text": text}, answer)
    answer.flush()
    return 0 if ok else 1


if __name__ == "__main__":
    # Without what libraries do at exit: the answer is given, and what they wait for then has no deadline.
    status = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(status)
