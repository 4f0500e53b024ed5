"""Intervals for one binomial proportion."""

from __future__ import annotations

import math

from scipy.special import betaincinv, ndtri

__all__ = ["binomial_interval", "clopper_pearson", "wilson"]

# Below this the normal approximation behind a score interval is not worth having.
SMALL_N = 10


def wilson(successes: float, n: float, *, confidence: float, quantile: float | None = None) -> tuple[float, float]:
    """Wilson's score interval for a proportion.

    successes and n may be fractions where n is an effective number of examples; quantile replaces the
    normal quantile there. Source: Wilson 1927, JASA 22.
    """
    z = float(ndtri((1 + confidence) / 2)) if quantile is None else quantile
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def clopper_pearson(successes: int, n: int, *, confidence: float) -> tuple[float, float]:
    """The exact binomial interval. Source: Clopper and Pearson 1934, Biometrika 26."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def binomial_interval(successes: int, n: int, *, confidence: float) -> tuple[float, float, str]:
    """Low, high and the method: exact where n is below 10 or all examples agree, else Wilson."""
    if n < SMALL_N or successes in (0, n):
        return *clopper_pearson(successes, n, confidence=confidence), "Clopper-Pearson (exact)"
    return *wilson(successes, n, confidence=confidence), "Wilson"
