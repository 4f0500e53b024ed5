"""`python -m harness.cli` is the command `harness`."""

from __future__ import annotations

import sys

from harness.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
