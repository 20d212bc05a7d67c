"""log p(x) of a VAE, by importance weighting (Burda et al. 2016) and by annealing (Neal 2001; Wu et al. 2017, ICLR).

Both are means of weights whose expectation is p(x) exactly. Their logarithms are too small on average, so -log p(x)
comes out too large on average, by about half the variance of the logarithm of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from whyvae.models.priors import log_normal
from whyvae.models.vae import VAE
from whyvae.training.feed import affordable

DRAWS = 128  # importance samples of a row
CHAINS, TEMPERATURES, LEAPS = (
    16,
    500,
    10,
)  # of annealing: chains of a row, distributions from prior to posterior, steps of a move
PILOTS = 4  # chains of a row that find the size of a move
ACCEPTED = 0.65  # of moves, where Hamiltonian Monte Carlo costs least (Beskos et al. 2013)
FASTER = 1.05  # by so much the size of a move changes from one temperature to the next
STEEP = 4.0  # the temperatures lie on a sigmoid from -STEEP to STEEP: dense at both ends


@dataclass(frozen=True, slots=True)
class Likelihood:
    """-log p(x) of held-out rows in nats an example, in the model's unit (add `Codec.nats` for that of the data).

    An upper bound: see this module. `error`: what the chance of the draws moves it by; `spread`: standard error over
    rows, what other rows would. `draws`: weights of each row: importance samples, or chains.
    """

    nats: float
    error: float
    spread: float
    rows: int
    draws: int

    @classmethod
    def of(cls, weights: Tensor) -> Likelihood:
        """From log weights [n, draws]."""
        n, count = weights.shape
        nats = math.log(count) - weights.logsumexp(1)
        relative = (weights - weights.amax(1, keepdim=True)).exp()
        variance = relative.var(1) / relative.mean(1) ** 2 / count  # of the logarithm of a mean
        spread = float(nats.std()) / math.sqrt(n) if n > 1 else math.nan
        return cls(float(nats.mean()), math.sqrt(float(variance.sum())) / n, spread, n, count)


@torch.no_grad()
def importance_weighted(model: VAE, rows: Tensor, count: int = DRAWS) -> Likelihood:
    """Draws of q(z|x) weighted by p(x, z) / q(z|x). `rows` [n, *model_shape]."""
    found = []
    for x in rows.split(max(1, affordable(4096, rows.shape[1:]) // count)):
        mu, logvar = (t.repeat_interleave(count, 0) for t in model.encode(x))
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        nll = model.likelihood.nll(model.decode(z), x.repeat_interleave(count, 0))
        weights = model.prior.log_prob(z) - log_normal(z, mu, logvar) - nll
        found.append(weights.double().reshape(len(x), count))
    return Likelihood.of(torch.cat(found))


def annealed(
    model: VAE, rows: Tensor, chains: int = CHAINS, temperatures: int = TEMPERATURES, leaps: int = LEAPS
) -> Likelihood:
    """Chains from the prior to p(z|x) by way of p(z) p(x|z)^b, b from 0 to 1; the encoder has no part in it.

    Moves are Hamiltonian (`leaps` leapfrog steps). Their size, of each row at each temperature, is found by PILOTS
    chains first and then kept: sizes that followed the chain itself would spoil the expectation. `rows` [n,
    *model_shape].
    """
    at = torch.linspace(-STEEP, STEEP, temperatures + 1, dtype=torch.float64).sigmoid()
    schedule = ((at - at[0]) / (at[-1] - at[0])).tolist()
    found = []
    for x in rows.split(max(1, affordable(4096, rows.shape[1:]) // chains)):
        _, sizes = _chains(model, x, PILOTS, schedule, leaps, None)
        found.append(_chains(model, x, chains, schedule, leaps, sizes)[0])
    return Likelihood.of(torch.cat(found))


def _chains(
    model: VAE, x: Tensor, chains: int, schedule: list[float], leaps: int, sizes: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """(log weights [n, chains], size of the moves of each row at each temperature); without `sizes` they adapt."""
    many = x.repeat_interleave(chains, 0)
    with torch.no_grad():
        z = model.prior.draw(len(many))
    weights = torch.zeros(len(many), dtype=torch.float64)
    used: list[Tensor] = []
    size = torch.full((len(x),), 0.1)
    cold = _cold(model, many, z)
    for before, beta in pairwise(schedule):
        weights += (beta - before) * cold.detach().double()
        size = size if sizes is None else sizes[len(used)]
        used.append(size)
        z, cold, accepted = _moved(model, many, z, beta, size.repeat_interleave(chains), leaps)
        if sizes is None:
            rate = accepted.reshape(len(x), chains).float().mean(1)
            size = size * torch.where(rate > ACCEPTED, FASTER, 1 / FASTER)
    return weights.reshape(len(x), chains), used


def _cold(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z), [b]."""
    return -model.likelihood.nll(model.decode(z), x)


def _pull(model: VAE, x: Tensor, z: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """log of the density at this temperature [b], its gradient [b, units], log p(x|z) [b]."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        cold = _cold(model, x, at)
        total = model.prior.log_prob(at) + beta * cold
        (gradient,) = torch.autograd.grad(total.sum(), at)
    return total.detach(), gradient, cold.detach()


def _moved(model: VAE, x: Tensor, z: Tensor, beta: float, size: Tensor, leaps: int) -> tuple[Tensor, Tensor, Tensor]:
    """One Hamiltonian move that leaves the density at this temperature as it is: (z, log p(x|z), accepted)."""
    step, velocity = size[:, None], torch.randn_like(z)
    start, gradient, cold = _pull(model, x, z, beta)
    energy, new, speed, density, there = start - 0.5 * velocity.square().sum(1), z, velocity, start, cold
    for _ in range(leaps):
        speed = speed + 0.5 * step * gradient
        new = new + step * speed
        density, gradient, there = _pull(model, x, new, beta)
        speed = speed + 0.5 * step * gradient
    gain = density - 0.5 * speed.square().sum(1) - energy
    accepted = torch.rand_like(gain).log() < gain  # False where gain is no number
    return torch.where(accepted[:, None], new, z), torch.where(accepted, there, cold), accepted
