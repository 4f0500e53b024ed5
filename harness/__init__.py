"""Adapter Harness: the test suite that a fine-tuned adapter must pass before it ships."""

__all__: list[str] = []
