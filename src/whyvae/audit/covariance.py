"""Posteriors of full covariance, z = mu + L eps: L by what each number of the noise does to z, and what a KL does to it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

REVERSED = "it is KL(p || q), the wrong way round"
MOST_UNITS = 64  # of the noise: each is one run of the encoder's end


def rows_of_noise(noise: tuple[int, ...], z: tuple[int, ...]) -> tuple[int, int] | None:
    """(rows, numbers of a row) of noise of this shape for `z` of that, a row being a sample of an example; None where the two
    do not go row by row, a row of noise is not as long as one of z, or it is too long.
    """
    if not noise or not z or noise[0] != z[0]:
        return None
    rows = math.prod(noise[:-1]) if noise == z else noise[0]
    numbers = math.prod(noise) // rows
    return (rows, numbers) if numbers <= MOST_UNITS and math.prod(z) == rows * numbers else None


def factor(run: Callable[[Tensor], Tensor], noise: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """(mu in the shape of z, L [rows, units, units]) of `run`, z as a function of the noise; None where `rows_of_noise` has none."""
    mu = run(torch.zeros(noise, dtype=torch.float64))
    known = rows_of_noise(noise, tuple(mu.shape))
    if known is None:
        return None
    (rows, numbers), columns = known, []
    for j in range(numbers):
        unit = torch.zeros(rows, numbers, dtype=torch.float64)
        unit[:, j] = 1
        columns.append((run(unit.reshape(noise)) - mu).reshape(rows, -1))
    return mu, torch.stack(columns, 2)


def spread(factors: Tensor) -> Tensor:
    """Standard deviation of each unit alone, [rows, units]."""
    return factors.square().sum(2).clamp_min(1e-300).sqrt()


def log_volume(factors: Tensor) -> Tensor:
    """The logarithm of the size of det L, [rows]; that of a standard deviation where there is one unit."""
    volume: Tensor = torch.linalg.slogdet(factors).logabsdet
    return volume


def whitened(factors: Tensor, moved: Tensor) -> Tensor:
    """L^-1 (z - mu), [rows, units]."""
    rows: Tensor = torch.linalg.solve_ex(factors, moved.reshape(factors.shape[0], -1, 1)).result[..., 0]
    return rows


def formulas(mu: Tensor, factors: Tensor) -> dict[str, Tensor]:
    """The wrong formulas people write for the KL, each a sum over the batch."""
    mean, inverse = mu.reshape(factors.shape[0], -1), torch.linalg.pinv(factors)  # of a singular one too
    alone = factors.diagonal(dim1=1, dim2=2)
    squares = 0.5 * mean.square().sum()
    volume = log_volume(factors).sum()
    return {
        REVERSED:
            0.5 * (inverse.square().sum() + (inverse @ mean[..., None]).square().sum()) + volume,
        "the covariances between units are left out of it":
            squares + 0.5 * alone.square().sum() - alone.abs().clamp_min(1e-300).log().sum(),
        "the logarithm is taken of the trace of L": squares + 0.5 * factors.square().sum() - alone.sum(1).abs().log().sum(),
    }  # fmt: skip


def along_density(direct: Tensor, entropy: Tensor, ways: Tensor) -> tuple[float, float]:
    """(w, residual) of `direct` as w times `entropy` and any pull on z: gradients at the heads, [batch, heads], and of z by the
    heads, [batch, units, heads].
    """
    basis = torch.linalg.qr(ways.mT).Q

    def rest(g: Tensor) -> Tensor:
        left: Tensor = g - (basis @ (basis.mT @ g[..., None]))[..., 0]
        return left

    left, wanted = rest(direct), rest(entropy)
    weight = float((left * wanted).sum() / wanted.square().sum().clamp_min(1e-300))
    return weight, float((left - weight * wanted).norm() / left.norm().clamp_min(1e-300))
