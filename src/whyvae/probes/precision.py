"""How much each number of an output counts, where a likelihood gives each a variance of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from whyvae.probes.data import by_example
from whyvae.probes.objective import audited_likelihood

LEAST = 1e-6  # of the mean precision: below it a number is as good as not there


def precision_shares(subject: Any) -> Tensor | None:
    """Precision of each number of an output, times s, [D]; None where all have the same: squares weighted by these shares
    cost SSE / 2s as the user's loss does.

    The gradient at the output is residual times precision for a Gaussian: regressed on the residual over the examples of the
    recorded step; the mean precision is 1 / s. For a Laplace of scale b it is 1 / b, its variance is 2 b^2, and s is that of
    the mean pull.
    """
    found = audited_likelihood(subject)
    residual = None if found is None else found.error
    if found is None or found.gradient is None or residual is None:
        return None
    if found.family == "laplace per element":
        pull = by_example(found.gradient.double(), subject.batch).abs().mean(0)
        return (pull / pull.mean().clamp_min(1e-300)).square().clamp_min(LEAST)
    if found.family != "gaussian per element":
        return None
    rows, slopes = (by_example(v.double(), subject.batch) for v in (residual, found.gradient))
    precision = (rows * slopes).sum(0) / rows.square().sum(0).clamp_min(1e-300)
    mean = float(precision.mean())
    return (precision / mean).clamp_min(LEAST) if mean > 0 else None
