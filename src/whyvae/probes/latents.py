"""The posterior as the trained encoder gives it: how much each latent unit carries, and where the encodings lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.covariance import log_volume
from whyvae.audit.cut import posterior_and_factor
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import feeds_looked_at
from whyvae.probes.objective import audited_regulariser

PER_UNIT = 5  # encodings: the logarithm of a determinant known from fewer is off by a tenth of a nat a unit
Encoded = tuple[Tensor, Tensor, Tensor | None]  # mu, sigma, L of a full covariance
ACTIVE = 0.005  # nats: what a linear VAE's unit carries at Burda's threshold Var(mu) = 0.01


@dataclass(frozen=True)
class LatentUsage(Probe):
    """KL(q(z|x) || N(0, I)) per latent unit in nats, averaged over examples, and moments of the aggregated posterior.
    `rate` is that of all units; of a full covariance it is more than the sum of the units', each taken alone.

    `gap` is 0.5 (tr S + m'm - d - log|S|), the KL between N(m, S) of the encodings and the prior: what the aggregated
    posterior is off by at least in its first two moments (exact where it is Gaussian). `gap_diagonal` takes S as
    diagonal; the rest, sum by sum, is correlation between units. With fewer than PER_UNIT encodings a unit a full S is not
    known, and `gap` is the diagonal one.
    """

    kl_per_unit: tuple[float, ...]
    rate: float
    active: int
    units: int
    smallest_sigma: float
    largest_sigma: float
    negative_sigma: float  # share
    gap: float  # nats, all units
    gap_diagonal: float
    mu_range: tuple[float, float]
    log_sigma_range: tuple[float, float]
    rows: int
    own_prior: bool = False  # the model's prior is another than N(0, I)

    @property
    def information(self) -> float:
        """An upper bound of what the code tells of the example, nats: the KL to the prior, or, where N(0, I) is not the prior, to
        N(m, S) of the encodings themselves, which is `rate` less `gap`.
        """
        return max(0.0, self.rate - self.gap) if self.own_prior else self.rate

    @classmethod
    def measure(cls, subject: Any) -> Self:
        mu, sigma = encodings(subject)
        size = sigma.abs().clamp_min(1e-12)
        kl, full = (0.5 * (mu**2 + size**2 - 1) - size.log()).mean(0), factors(subject)
        shared = 0.0 if full is None else float((size.log().sum(1) - log_volume(full)).mean())
        mean, variance = mu.mean(0), mu.var(0, correction=0) + (size**2).mean(0)
        diagonal = float((0.5 * (variance + mean**2 - 1 - variance.clamp_min(1e-300).log())).sum())
        known = mu.shape[0] >= PER_UNIT * mu.shape[1]
        return cls(
            tuple(kl.tolist()), float(kl.sum()) + shared, int((kl > ACTIVE).sum()), mu.shape[1], float(size.min()),
            float(size.max()), float((sigma < 0).double().mean()), _gap(mu, size, full) if known else diagonal, diagonal,
            (float(mu.min()), float(mu.max())), (float(size.log().min()), float(size.log().max())), mu.shape[0],
            _own_prior(subject),
        )  # fmt: skip


def _own_prior(subject: Any) -> bool:
    try:
        return audited_regulariser(subject).own_prior
    except CannotMeasure:
        return False


def _gap(mu: Tensor, sigma: Tensor, full: Tensor | None) -> float:
    """KL(N(m, S) || N(0, I)) in nats, S the covariance of mu plus the mean of sigma^2, or of L L'."""
    mean = mu.mean(0)
    within = (sigma**2).mean(0).diag() if full is None else (full @ full.mT).mean(0)
    covariance = (mu - mean).T @ (mu - mean) / mu.shape[0] + within
    return 0.5 * float(covariance.trace() + mean.square().sum() - mu.shape[1] - covariance.logdet())


def encodings(subject: Any, feeds: list[dict[int, Tensor]] | None = None) -> tuple[Tensor, Tensor]:
    """(mu, sigma) of the recorded examples, [n, latents], batch norm and dropout in evaluation mode."""
    mu, sigma, _ = _kept(subject, feeds)
    return mu, sigma


def factors(subject: Any, feeds: list[dict[int, Tensor]] | None = None) -> Tensor | None:
    """L of the posteriors of `encodings`, where their covariance is full, [n, latents, latents]."""
    return _kept(subject, feeds)[2]


def _kept(subject: Any, feeds: list[dict[int, Tensor]] | None) -> Encoded:
    kept: dict[Any, Encoded] = subject.__dict__.setdefault("_encodings", {})
    key = "train" if feeds is None else id(feeds)
    if key not in kept:
        kept[key] = _encoded(subject, feeds_looked_at(subject) if feeds is None else feeds)
    return kept[key]


def posterior_samples(
    subject: Any, generator: torch.Generator, feeds: list[dict[int, Tensor]] | None = None, rows: Tensor | None = None,
    times: int = 1,
) -> Tensor:  # fmt: skip
    """Z of the recorded examples (of those at `rows`), `times` for each, [times * n, latents]."""
    (mu, sigma), full = encodings(subject, feeds), factors(subject, feeds)
    rows = torch.arange(mu.shape[0]) if rows is None else rows
    mean, spread = mu[rows].repeat(times, 1), sigma[rows].repeat(times, 1)
    if full is None:
        return mean + spread * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    eps = torch.randn(mean.shape[0], full.shape[2], 1, generator=generator, dtype=torch.float64)
    samples: Tensor = mean + (full[rows].repeat(times, 1, 1) @ eps)[..., 0]
    return samples


def _encoded(subject: Any, feeds: list[dict[int, Tensor]]) -> Encoded:
    lineage, replay = subject.lineage, subject.replay
    if subject.broken:
        raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
    if not lineage.heads:
        raise CannotMeasure("the layer that makes mu and sigma was not seen")
    mus, sigmas, fulls = [], [], []
    for feed in feeds or [{}]:
        with torch.no_grad():
            values = replay.run(lineage.heads, feed=feed, training=False)
        heads = [values[h].detach().clone().requires_grad_() for h in lineage.heads]
        mu, sigma, full = posterior_and_factor(lineage, replay, heads, feed, training=False)
        mus.append(_units(mu, subject))
        sigmas.append(_units(sigma.expand_as(mu), subject))
        fulls += [] if full is None else [full.detach()]
    whole = torch.cat(mus)
    alike = fulls and sum(len(f) for f in fulls) == len(whole)  # else several samples of an example
    return whole, torch.cat(sigmas), torch.cat(fulls) if alike else None


def _units(value: Tensor, subject: Any) -> Tensor:
    """[.., batch, ..] -> [batch, latents]; of several samples of one example the first (mu does not differ)."""
    value = value.detach()
    if value.dim() > 2 and value.shape[0] != subject.batch and value.shape[1] == subject.batch:
        value = value[0]
    return value.reshape(value.shape[0], -1) if value.dim() > 1 else value[:, None]
