"""In-process runs of pytest forget the modules that they imported; numpy and torch load once a process, and the
judge's SDK takes seconds."""

import harness.engine.capability
import harness.engine.training
import harness.statistics.scored  # noqa: F401
