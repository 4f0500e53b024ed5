"""In-process runs of pytest forget the modules that they imported, and numpy and torch load once a process."""

import harness.engine.capability
import harness.engine.training
import harness.statistics.scored  # noqa: F401
