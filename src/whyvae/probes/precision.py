"""How much each number of an output counts, where a Gaussian likelihood gives each a variance of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from whyvae.probes.data import by_example
from whyvae.probes.objective import audited_likelihood

LEAST = 1e-6  # of the mean precision: below it a number is as good as not there


def precision_shares(subject: Any) -> Tensor | None:
    """Precision of each number of an output over their mean, [D]; None where all have the same.

    The gradient at the output is residual times precision: regressed on the residual over the examples of the recorded
    step. The mean precision is 1 / s, so that squares weighted by these shares cost SSE / 2s as the user's loss does.
    """
    found = audited_likelihood(subject)
    residual = None if found is None else found.error
    if found is None or found.family != "gaussian per element" or found.gradient is None or residual is None:
        return None
    rows, slopes = (by_example(v.double(), subject.batch) for v in (residual, found.gradient))
    precision = (rows * slopes).sum(0) / rows.square().sum(0).clamp_min(1e-300)
    mean = float(precision.mean())
    return (precision / mean).clamp_min(LEAST) if mean > 0 else None
