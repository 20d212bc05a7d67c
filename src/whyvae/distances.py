"""Distances between two sets of feature vectors: what generation scores are made of. Nothing random, nothing trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 5  # as in Naeem et al. 2020


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """[n, F], [m, F] -> [n, m]; what rounding leaves of equal rows is 0."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.where(squares > 1e-10 * a.shape[1], 0.0)


def nearest(squares: Tensor) -> Tensor:
    """Squared distance of each row [n, n] to its NEIGHBOURS-th other row."""
    return squares.topk(min(NEIGHBOURS, squares.shape[0] - 1) + 1, dim=1, largest=False).values[:, -1]


def neighbourhoods(real: Tensor, fake: Tensor, across: Tensor) -> tuple[float, float, float, float]:
    """(precision, recall, density, coverage) from squared radii [n], [m] and squared distances [n, m].

    Same distribution on both sides: density is 1 and coverage 1 - prod_{j=1..k} (n - j) / (n + m - j) on average.
    """
    inside = across <= real[:, None]
    return (
        float(inside.any(0).double().mean()),
        float((across <= fake[None]).any(1).double().mean()),
        float(inside.double().sum(0).mean()) / min(NEIGHBOURS, real.shape[0] - 1),
        float(inside.any(1).double().mean()),
    )


def sliced(a: Tensor, b: Tensor, directions: Tensor) -> float:
    """Mean over unit `directions` [F, P] of the squared Wasserstein-2 distance between projections of equally many rows.

    A shift by m is |m|^2 / F.
    """
    return float(gap((a @ directions).sort(0).values, (b @ directions).sort(0).values))


def gap(a: Tensor, b: Tensor) -> Tensor:
    """The same of sorted projections [n, P]."""
    return (a - b).square().mean()


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """(a.b / F + 1)^3, [n, m]."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy under `polynomial`: 0 on average where the distributions agree."""
    return off_diagonal(polynomial(a, a)) + off_diagonal(polynomial(b, b)) - 2 * float(polynomial(a, b).mean())


def one_sided(squares: Tensor, *, itself: bool = False) -> Tensor:
    """Distance to the nearest column over that to the second, [n]: near 0 for a copy of one column, 1 prefers none.

    `itself`: the nearest column is the row itself, and does not count.
    """
    closest = squares.topk(3, dim=1, largest=False).values[:, int(itself) :]
    return (closest[:, 0] / closest[:, 1].clamp_min(1e-300)).where(closest[:, 1] > 0, 1.0).sqrt()


def off_diagonal(kernel: Tensor) -> float:
    """Mean over pairs of different rows."""
    n = kernel.shape[0]
    return float((kernel.sum() - kernel.trace()) / (n * (n - 1)))


@dataclass(frozen=True, slots=True)
class Other:
    """What is compared with real rows: squared radii [n] and sorted projections [n, P]."""

    radius: Tensor
    projected: Tensor

    @classmethod
    def of(cls, squares: Tensor, projected: Tensor) -> Other:
        return cls(nearest(squares), projected.sort(0).values)


@dataclass(frozen=True, slots=True)
class Half:
    """n of the real rows, with what every comparison needs of them."""

    rows: Tensor
    radius: Tensor
    projected: Tensor
    spread: float

    def compared(self, other: Other, across: Tensor, apart: Tensor, spread: float) -> Tensor:
        """The six scores, from squared distances and kernel values [n, n] between these rows and the others."""
        found = neighbourhoods(self.radius, other.radius, across)
        distance = float(gap(self.projected, other.projected))
        return torch.tensor([*found, distance, self.spread + spread - 2 * float(apart.mean())], dtype=torch.float64)
