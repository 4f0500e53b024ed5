"""In-process runs of pytest forget the modules that they imported, and numpy and torch load once a process, and the SDK of
the judge takes seconds."""


import harness.engine.capability
import harness.engine.training
import harness.statistics.scored  # noqa: F401
