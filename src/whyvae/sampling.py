"""New rows from a trained VAE, and what its latent space does to rows: reconstruct, interpolate, traverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from whyvae.data import Codec, Dataset
from whyvae.probes.density import density
from whyvae.training.run import Trained

Sampler = Literal["prior", "gmm", "two-stage"]
FITTED_ON = 4096  # encodings
PART = 512  # rows decoded at a time
SECOND_STAGE = 2000  # steps of the second VAE


@dataclass(frozen=True)
class Latents:
    """Posterior means and standard deviations of rows, [n, units] each, and one draw of each."""

    mu: Tensor
    sigma: Tensor
    z: Tensor


@torch.no_grad()
def latents(trained: Trained, rows: Tensor, generator: torch.Generator) -> Latents:
    """Of rows [n, *shape] in the unit of the data."""
    parts = [trained.model.encode(trained.codec.encode(part)) for part in rows.split(PART)]
    mu, sigma = torch.cat([m for m, _ in parts]), torch.cat([(0.5 * v).exp() for _, v in parts])
    return Latents(mu, sigma, mu + sigma * torch.randn(mu.shape, generator=generator))


def encoded(trained: Trained, data: Dataset, which: Any, generator: torch.Generator) -> Latents:
    """`latents` of the rows of `data` at positions `which`; never more than PART of them are held."""
    parts = [latents(trained, data.take(which[i : i + PART]), generator) for i in range(0, len(which), PART)]
    return Latents(*(torch.cat([getattr(p, name) for p in parts]) for name in ("mu", "sigma", "z")))


def draws(trained: Trained, n: int, sampler: Sampler, data: Dataset | None, seed: int) -> Tensor:
    """Latents [n, units] to generate from: of the prior, or of a density fitted to the encodings of `data`."""
    generator = torch.Generator().manual_seed(seed)
    if sampler == "prior":
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            return trained.model.prior.draw(n)
    assert data is not None  # noqa: S101 - the caller loads it
    which = torch.randperm(len(data), generator=generator)[: 2 * FITTED_ON].numpy()
    found = encoded(trained, data, which, generator)
    cut = len(which) * 3 // 4
    if sampler == "gmm":
        return density(found.z[:cut].double(), found.z[cut:].double()).sample(n, generator).float()
    return _second_stage(found.z, n, seed)


def _second_stage(z: Tensor, n: int, seed: int) -> Tensor:
    """Draws from a second VAE, trained on the first one's encodings (Dai & Wipf 2019, "Diagnosing and enhancing VAEs")."""
    from whyvae.data.raw import Raw
    from whyvae.models.build import ModelConfig
    from whyvae.train import train
    from whyvae.training.run import TrainConfig

    data = Dataset.of(Raw(z.numpy(), kind="table"), "encodings")
    config = TrainConfig(steps=SECOND_STAGE, seed=seed, device="cpu")
    second = train(data, ModelConfig(latents=z.shape[1]), config)
    return generated(second, draws(second, n, "prior", None, seed), noise=True, seed=seed)


@torch.no_grad()
def generated(trained: Trained, z: Tensor, *, noise: bool | None = None, seed: int = 0) -> Tensor:
    """Rows [n, *shape] in the unit of the data.

    `noise` adds the likelihood's own; by default to tables, whose columns have it, and not to pictures.
    """
    model, codec = trained.model, trained.codec
    noisy = codec.kind == "table" if noise is None else noise
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [model.decode(part) for part in z.split(PART)]
        made = [model.likelihood.draw(p) if noisy else model.likelihood.mean(p) for p in parts]
    return codec.decode(torch.cat(made))


def reconstructed(trained: Trained, rows: Tensor) -> Tensor:
    """[n, *shape] -> [n, *shape], by way of the posterior's mean."""
    mu = latents(trained, rows, torch.Generator()).mu
    return generated(trained, mu, noise=False)


def interpolated(trained: Trained, one: Tensor, other: Tensor, steps: int = 8) -> Tensor:
    """From rows `one` to rows `other` [n, *shape]: [n, steps, *shape]. On the sphere: a straight line leaves the prior's shell."""
    generator = torch.Generator()
    a, b = latents(trained, one, generator).mu, latents(trained, other, generator).mu
    at = torch.linspace(0, 1, steps)[None, :, None]  # [1, steps, 1]
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-0.9999, 0.9999)
    angle = cosine.arccos()[:, None, None].clamp_min(1e-3)
    path = (((1 - at) * angle).sin() * a[:, None] + (at * angle).sin() * b[:, None]) / angle.sin()  # [n, steps, units]
    made = generated(trained, path.flatten(0, 1), noise=False)
    return made.reshape(len(a), steps, *made.shape[1:])


def traversed(trained: Trained, row: Tensor, steps: int = 7, reach: float = 2.5) -> Tensor:
    """One row [1, *shape] with one unit at a time moved over [-reach, reach]: [units, steps, *shape]."""
    mu = latents(trained, row, torch.Generator()).mu[0]
    grid = mu.repeat(len(mu), steps, 1)  # [units, steps, units]
    for unit in range(len(mu)):
        grid[unit, :, unit] = torch.linspace(-reach, reach, steps)
    made = generated(trained, grid.flatten(0, 1), noise=False)
    return made.reshape(len(mu), steps, *made.shape[1:])


def in_source_type(rows: Tensor, codec: Codec) -> Any:
    """A numpy array: whole numbers where the data has them."""
    if not codec.whole:
        return rows.numpy()
    rounded = rows.round()
    return rounded.to(torch.uint8 if codec.low >= 0 and codec.high <= 255 else torch.int64).numpy()
