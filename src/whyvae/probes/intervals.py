"""Exact intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


def binomial(hits: int, n: int) -> tuple[float, float, float]:
    """(share, its exact 95 % interval) (Clopper & Pearson 1934)."""
    low = _root(lambda p: _at_least(hits, n, p), 0.025) if hits else 0.0
    high = _root(lambda p: _at_least(hits + 1, n, p), 0.975) if hits < n else 1.0
    return hits / n, low, high


def _at_least(hits: int, n: int, p: float) -> float:
    """Probability of `hits` or more in n draws."""
    k = torch.arange(hits, n + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return float((ways + k * math.log(p) + (n - k) * math.log1p(-p)).exp().sum())


def _root(rising: Callable[[float], float], level: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return (low + high) / 2
