"""What numbers look like whose drawing was, or was not, seen: moments, chance, independence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EACH = 256  # rows: the KL of one unit is then known to a few hundredths of a nat
CENTRED = 0.01  # of the spread: a mean this near 0 is 0, however many rows tell it from 0
MIDDLE = 0.05  # one example in twenty has its code so near to the middle of all
CARRIES = 0.1  # spread of the means of a unit: below it, it carries less than a hundredth of a nat
LEAST = 24  # numbers from outside torch: fewer cannot be told from a choice


def moments(z: Tensor, mean: Tensor, sd: Tensor) -> tuple[float, float, float]:
    """(mean, sd, nats per unit) of z in units of the given distribution; Gaussian moments, less their noise.

    Of many rows each unit is compared by itself: one that is far too wide does not make up for others too narrow.
    """
    scaled = (z - mean) / sd
    rows = scaled.shape[0] if scaled.shape[0] >= 8 else scaled.numel()
    scaled = scaled.reshape(rows, -1)
    variance = scaled.var(0)
    squared = scaled.mean(0).square() - variance / rows
    pooled = variance.mean().clamp_min(1e-12)
    if rows < EACH:
        variance, squared = pooled, squared.mean().clamp_min(0)
    v = variance.clamp_min(1e-12)
    nats = 0.5 * (v + squared - 1 - v.log())
    return float(scaled.mean()), float(pooled.sqrt()), float(nats.mean().clamp_min(0))


def centred(z: Tensor, mean: Tensor, sd: Tensor) -> bool:
    """Does every unit of many rows lie, within four standard errors, around the mean of the given distribution, as draws that
    were only scaled do? (The draws of a density fitted to some encodings, or around one of them, lie elsewhere in some unit.)
    """
    rows = z.shape[0]
    off = ((z.mean(0) - mean) / sd).abs()
    return rows >= EACH and bool((off < CENTRED + 4 * z.std(0) / sd / math.sqrt(rows)).all())


def amid(z: Tensor, mean: Tensor, sd: Tensor) -> bool:
    """Does the mean of many rows lie nearer to the middle of encodings than MIDDLE of these do? `mean`, `sd`: theirs, [units].

    So do draws around the mean of a batch's encodings; the variations of one example seldom do. Units that carry nothing, in
    which all encodings lie in the middle, tell nothing.
    """
    used = sd > CARRIES
    off = ((z.mean(0) - mean) / sd)[used].square().sum()
    units = int(used.sum())
    return (
        units > 0
        and z.shape[0] >= EACH
        and float(torch.special.gammainc(torch.tensor(units / 2.0).double(), off / 2)) < MIDDLE
    )


def chance(z: Tensor, mean: Tensor, sd: Tensor) -> float:
    """Two-sided probability that draws from N(mean, sd^2) have such a mean, or such a sum of squares."""
    scaled = ((z - mean) / sd).flatten()
    n = scaled.numel()
    below = float(torch.special.gammainc(torch.tensor(n / 2.0).double(), scaled.square().sum() / 2))
    off = math.erfc(abs(float(scaled.mean())) * math.sqrt(n / 2))
    return min(1.0, 2 * min(2 * min(below, 1 - below), off))


def looks_drawn(z: Tensor) -> bool:
    """Do numbers whose origin was not seen look drawn, independently, and alike for all units? (A grid, a path between
    encodings, encodings themselves do not.)
    """
    rows, units = z.shape
    if z.numel() < LEAST or z.flatten().unique().numel() < 0.99 * z.numel():
        return False
    centred = z - z.mean(0) if rows > 1 else z - z.mean()
    line = centred if rows > 2 else centred.T
    steps = float(line.diff(dim=0).square().sum() / line.square().sum())  # 2 for independent rows (von Neumann)
    if line.shape[0] < 3 or steps < 2 - 6 / math.sqrt(z.numel()) or _ordered(z):
        return False
    if rows < 3 or units < 2:
        return True
    variance, means = centred.var(0), z.mean(0)
    alike = float(variance.max() / variance.min()) < 1 + 12 / math.sqrt(rows)
    return alike and float(means.var() * rows / variance.mean()) < 1 + 6 * math.sqrt(2 / (units - 1))


def _ordered(z: Tensor) -> bool:
    """Is a column sorted (a traversal), or do all rows lie on one line (an interpolation)?"""
    if z.shape[0] > 4 and any(bool((d >= 0).all() or (d <= 0).all()) for d in z.diff(dim=0).T):
        return True
    values = torch.linalg.svdvals(z - z.mean(0))
    return z.shape[0] > 3 and values.numel() > 1 and float(values[1]) < 1e-3 * float(values[0])


def traversal(z: Tensor) -> bool:
    """Do some units vary from row to row, while others are the same in all?"""
    moving = (z != z[:1]).any(0)
    return z.shape[0] > 2 and bool(moving.any()) and not bool(moving.all())
