"""What the pull on each number of the output shows: gaps, a precision for each feature, a scale for each number."""

from __future__ import annotations

from torch import Tensor


def mask(g: Tensor) -> Tensor | float:
    """0 where the loss takes no notice of a number of the output, if those are others for each example (missing values)."""
    looked_at = g != 0
    return looked_at.to(g) if bool((looked_at != looked_at[:1]).any()) else 1.0


def by_feature(g: Tensor, r: Tensor | None) -> tuple[float, float, float] | None:
    """(mean precision, its sd / mean, residual) of squared errors with one precision for each feature, the same for all
    examples; None if it is not that.
    """
    if r is None or r.dim() < 2 or r.numel() < 4 * r.shape[-1]:
        return None
    pull, away = g.reshape(-1, r.shape[-1]), r.reshape(-1, r.shape[-1])
    precision = (pull * away).sum(0) / away.square().sum(0).clamp_min(1e-300)
    residual = float((pull - precision * away).norm() / pull.norm().clamp_min(1e-300))
    if not bool((precision > 0).all()):
        return None
    mean = float(precision.mean())
    return mean, float(precision.std(correction=0)) / mean, residual


def laplace_per_element(g: Tensor, curvature: Tensor | None, r: Tensor | None) -> Tensor | None:
    """How hard each number is pulled towards its target, where that does not change with the distance."""
    if r is None or (curvature is not None and bool(curvature.any())):
        return None
    towards = bool((g * r > 0)[r != 0].all()) and bool((r > 0).any()) and bool((r < 0).any())
    return g.abs() if towards else None
