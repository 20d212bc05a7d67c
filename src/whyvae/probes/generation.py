"""The generation ladder: how far from the data are reconstructions, and samples from the prior?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.likelihood import in_data_space
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import _by_example
from whyvae.probes.latents import encodings
from whyvae.probes.objective import audited_likelihood
from whyvae.probes.reconstruction import reconstructions

PROJECTIONS = 256
MOST = 1024  # examples
SPLITS = 8


@dataclass(frozen=True)
class Ladder(Probe):
    """Sliced Wasserstein distances (squared, features in units of their own spread) between examples and what the decoder
    makes: of posterior samples (`reconstruction`), of draws from the encodings' own Gaussian (`fitted`), of N(0, I)
    (`prior`). `null` is the distance between two halves of the data, `null_sd` its spread over random halves.
    """

    reconstruction: float
    fitted: float
    prior: float
    null: float
    null_sd: float
    rows: int

    @classmethod
    def measure(cls, subject: Any) -> Self:
        outputs, targets = reconstructions(subject)
        mu, sigma = encodings(subject)
        if mu.shape[0] != targets.shape[0] or subject.lineage.eps < 0:
            raise CannotMeasure("does not apply: examples and latents do not come one to one")
        n = min(MOST, targets.shape[0])
        generator = torch.Generator().manual_seed(23)
        order = torch.randperm(targets.shape[0], generator=generator)[:n]
        scale = targets.std(0).clamp_min(0.05 * float(targets.std(0).max()) + 1e-12)
        real, recon = targets[order] / scale, outputs[order] / scale
        z = mu + sigma * torch.randn(mu.shape, generator=generator, dtype=torch.float64)
        fitted = decode(subject, _fitted(z, n, generator)) / scale
        prior = decode(subject, torch.randn(n, mu.shape[1], generator=generator, dtype=torch.float64)) / scale
        dirs = torch.randn(real.shape[1], PROJECTIONS, generator=generator, dtype=torch.float64)
        dirs = dirs / dirs.norm(dim=0)
        halves = [_halves(real, dirs, generator) for _ in range(SPLITS)]
        null = torch.tensor(halves)
        return cls(
            sliced(real, recon, dirs), sliced(real, fitted, dirs), sliced(real, prior, dirs), float(null.mean()),
            float(null.std()), n,
        )  # fmt: skip


def sliced(a: Tensor, b: Tensor, directions: Tensor) -> float:
    """Mean over `directions` [D, P] of the squared Wasserstein-2 distance between projections of equally many rows."""
    one, two = (a @ directions).sort(0).values, (b @ directions).sort(0).values
    return float((one - two).square().mean())


def _halves(rows: Tensor, directions: Tensor, generator: torch.Generator) -> float:
    order = torch.randperm(rows.shape[0], generator=generator)
    half = rows.shape[0] // 2
    return sliced(rows[order[:half]], rows[order[half : 2 * half]], directions)


def _fitted(z: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n draws from the Gaussian with the encodings' mean and covariance."""
    centred = z - z.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, z.shape[0] - 1))
    noise = torch.randn(n, z.shape[1], generator=generator, dtype=torch.float64)
    drawn: Tensor = z.mean(0) + (noise * values.clamp_min(0).sqrt()) @ vectors.T
    return drawn


def decode(subject: Any, z: Tensor) -> Tensor:
    """Outputs in data space [n, D] for latents [n, units], in evaluation mode; other inputs (labels) as recorded."""
    lineage, replay = subject.lineage, subject.replay
    shape = subject.tape.slots[lineage.z].shape
    likelihood = audited_likelihood(subject)
    size, made = subject.batch, []
    feeds = subject.train or [{}]
    if len(shape) > 2 and shape[0] != size and shape[1] == size:
        raise CannotMeasure("does not apply: several samples per example in one step")
    for i, start in enumerate(range(0, z.shape[0], size)):
        part = z[start : start + size]
        full = torch.cat([part, part[:1].expand(size - part.shape[0], -1)]) if part.shape[0] < size else part
        with torch.no_grad():
            output = replay.run(
                [lineage.output],
                feed={**feeds[i % len(feeds)], lineage.z: full.reshape(shape)},
                training=False,
            )[lineage.output]
        output = in_data_space(likelihood.family, output) if likelihood is not None else output
        made.append(_by_example(output, size)[: part.shape[0]])
    return torch.cat(made)
