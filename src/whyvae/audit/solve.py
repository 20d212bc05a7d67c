"""A gradient as a sum of known ones: what the fits of the audit share."""

from __future__ import annotations

import torch
from torch import Tensor


def least_squares(basis: Tensor, g: Tensor) -> tuple[Tensor, float]:
    """Column-scaled least squares: (coefficients, residual norm / norm of g). Columns of nothing get 0."""
    size = basis.norm(dim=0)
    live = (size > 1e-200) & size.isfinite()
    coefficients = torch.zeros(basis.shape[1], dtype=torch.float64)
    if live.any():
        scaled = basis[:, live] / size[live]
        alone = scaled.shape[1] == 1  # of length 1: millions of numbers need no decomposition
        solved = scaled.T @ g if alone else torch.linalg.lstsq(scaled, g[:, None], driver="gelsd").solution[:, 0]
        coefficients[live] = solved / size[live]
    rest = (g - basis[:, live] @ coefficients[live]).norm() / g.norm().clamp_min(1e-300)
    return coefficients, float(rest)


def positive(sigma: Tensor) -> Tensor:
    return sigma.abs().clamp_min(1e-300)
