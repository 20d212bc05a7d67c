"""The linear floor: what a linear VAE reaches on the same data, with the same noise variance and as many latents."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.latents import encodings
from whyvae.probes.objective import Objective
from whyvae.probes.reconstruction import reconstructions

MOST_WORK = 5e9  # floating-point operations of the eigenvalues: fewer examples of larger data
HELD_PART = 4  # one example in this many judges, the others fit the linear VAE
LEAST = 32


@dataclass(frozen=True)
class LinearFloor(Probe):
    """Nats per example by which a linear VAE beats the user's (negative: the user's is better), same s, same d.

    Its optimum is known in closed form (Lucas et al. 2019; pPCA, Tipping & Bishop 1999). It is fitted on three of four
    recorded examples and compared on the fourth, which the user's may have been trained on. A model below it is not
    held back by its noise variance or its number of latents, since those are the same.
    """

    own: float  # in the user's objective, KL with weight 1
    error: float  # standard error
    calibrated: float  # (D/2) log(MSE / MSE_linear) + KL - KL_linear
    rows: int
    active: int  # latents the linear VAE uses

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        if not objective.weight_known or objective.family not in {"gaussian", "gaussian per element"}:
            raise CannotMeasure("does not apply: the linear VAE has no closed form for this likelihood")
        outputs, targets = reconstructions(subject)
        mu, sigma = encodings(subject)
        if mu.shape[0] != targets.shape[0]:
            raise CannotMeasure("does not apply: examples and latents do not come one to one")
        fit, judge = split(targets)
        if min(fit.numel(), judge.numel()) < LEAST:
            raise CannotMeasure(f"needs {LEAST * HELD_PART} different examples, saw {fit.numel() + judge.numel()}")
        s = objective.noise_variance
        size = sigma.abs().clamp_min(1e-12)
        kl = (0.5 * (mu**2 + size**2 - 1) - size.log()).sum(1)[judge]
        sse = (outputs - targets).square().sum(1)[judge]
        linear = LinearVAE.fitted(targets[fit], s, mu.shape[1])
        sse0, kl0 = linear.terms(targets[judge])
        gain = (sse - sse0) / (2 * s) + kl - kl0
        half = targets.shape[1] / 2
        calibrated = half * math.log(float(sse.mean()) / max(float(sse0.mean()), 1e-300)) + float((kl - kl0).mean())
        error = float(gain.std()) / math.sqrt(gain.numel())
        return cls(float(gain.mean()), error, calibrated, gain.numel(), linear.active)


@dataclass(frozen=True, slots=True)
class LinearVAE:
    """The optimum for noise variance s: eigenvalues and eigenvectors of the data's covariance above s."""

    mean: Tensor  # [D]
    values: Tensor  # [k], each above s
    vectors: Tensor  # [D, k]
    s: float

    @classmethod
    def fitted(cls, rows: Tensor, s: float, latents: int) -> Self:
        most = max(LEAST, int(math.sqrt(MOST_WORK / rows.shape[1])))
        mean = rows.mean(0)
        centred = rows[:most] - mean
        n = centred.shape[0]
        if n < centred.shape[1]:
            values, left = torch.linalg.eigh(centred @ centred.T)
            vectors = centred.T @ left / values.clamp_min(1e-300).sqrt()
        else:
            values, vectors = torch.linalg.eigh(centred.T @ centred)
        values = values / n
        kept = torch.arange(values.numel() - 1, max(-1, values.numel() - 1 - latents), -1)
        kept = kept[values[kept] > s]
        return cls(mean, values[kept], vectors[:, kept], s)

    @property
    def active(self) -> int:
        return self.values.numel()

    def terms(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(expected squared error at z ~ q(z|x), KL) of each row, [n] each."""
        centred = rows - self.mean
        y = centred @ self.vectors
        signal = (self.values - self.s) / self.values
        inside = ((1 - signal) * y).square().sum(1) + float((signal * self.s).sum())
        outside = centred.square().sum(1) - y.square().sum(1)
        variance = self.s / self.values
        kl = 0.5 * (signal / self.values * y.square() + variance - 1 - variance.log()).sum(1)
        return inside + outside, kl


def split(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the different rows: three of four, and the fourth, by their content."""
    known: set[int] = set()
    parts: tuple[list[int], list[int]] = ([], [])
    for index, row in enumerate(rows):
        key = zlib.crc32(row.float().numpy().tobytes())
        if key not in known:
            known.add(key)
            parts[key % HELD_PART == 0].append(index)
    return torch.tensor(parts[0], dtype=torch.long), torch.tensor(parts[1], dtype=torch.long)
