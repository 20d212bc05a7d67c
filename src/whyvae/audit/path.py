"""Log q(z|x) - log p(z) at the sample, q held fixed but for the path through z (Roeder, Wu & Duvenaud 2017), whatever p is.

All that the heads then feel comes through z = mu + sigma eps:

    u = d loss / d mu = d loss / d sigma / eps = -w (d log p / dz + eps / sigma)

Two posteriors with one noise and one z between them differ in sigma alone, and p falls out of the difference:

    u' - u = w eps (1 / sigma - 1 / sigma')
"""

from __future__ import annotations

import torch
from torch import Tensor

from whyvae.audit.conditional import EXACT, by_posterior
from whyvae.audit.cut import Cut, cut, gradient, head_values, injected
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay

SAME = 1e-9  # of z: the two posteriors' draws, where mu is a plain output


def path_weight(lineage: Lineage, replay: Replay, loss: int | None = None) -> tuple[float, float] | None:
    """(w per nat, residual) of such a KL; None where the loss has no such part, or p cannot be taken out."""
    heads, other = (injected(head_values(lineage, replay), 1.0, seed) for seed in range(2))
    here = cut(lineage, replay, heads=heads, loss=loss)
    moved = _with_the_same_z(lineage, replay, here, other)
    there = None if moved is None else cut(lineage, replay, heads=moved, loss=loss)
    if there is None or not torch.allclose(there.sample, here.sample, rtol=SAME, atol=SAME):
        return None
    one, two = _pull(here), _pull(there)
    if one is None or two is None:
        return None
    (u, eps, sigma), (v, _, other_sigma) = one, two
    left, way = v - u, eps * (1 / sigma - 1 / other_sigma)
    weight = float((left * way).sum() / way.square().sum().clamp_min(1e-300))
    residual = float((left - weight * way).norm() / left.norm().clamp_min(1e-300))
    return (weight, residual) if residual < EXACT and weight > 0 else None


def _with_the_same_z(lineage: Lineage, replay: Replay, here: Cut, heads: list[Tensor]) -> list[Tensor] | None:
    """`heads` with mu such that z is that of `here`; None if mu and sigma are not made apart."""
    there = cut(lineage, replay, heads=heads)
    to_mu, to_sigma = (gradient(t.sum(), there.heads) for t in (there.mu, there.sigma))
    if bool(((to_mu != 0) & (to_sigma != 0)).any()) or int((to_mu != 0).sum()) != there.mu.numel():
        return None
    away = (there.sample - here.sample).detach()
    shift = gradient((there.mu * away).sum(), there.heads)  # of each head that makes mu: away, times d mu / d head
    step = torch.where(to_mu != 0, shift / torch.where(to_mu != 0, to_mu, 1.0).square(), 0.0)
    parts = step.split([h.numel() for h in there.heads])
    return [h.detach() - part.reshape(h.shape) for h, part in zip(there.heads, parts, strict=True)]


def _pull(step: Cut) -> tuple[Tensor, Tensor, Tensor] | None:
    """(u, eps, sigma), number by number; None where the heads feel anything that does not come through z."""
    read = by_posterior(step)
    if read is None or step.factor is not None:
        return None
    mu, sigma, by_mu, by_sigma = read
    eps = (step.sample.detach().flatten() - mu) / sigma
    alike = float((by_sigma - eps * by_mu).norm()) <= EXACT * float(by_sigma.norm())
    return (by_mu, eps, sigma) if alike else None
