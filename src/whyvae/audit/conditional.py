"""A Gaussian KL to a prior of each example's own, N(m_i, s_i^2), as a network of the condition makes it (Sohn et al. 2015).

Its gradients at the posterior are, number by number, with a_i = w / s_i^2:

    d / d mu_i    = a_i mu_i - b_i
    d / d sigma_i = a_i sigma_i - w / sigma_i

The prior does not depend on the posterior's heads, so a_i and b_i stay as they are when the heads are replaced: three
sets of heads give six equations a number, for two unknowns of its own and the one w. It does where it is made of the
sample, p(z_t | z_t-1) of a state-space model (Krishnan et al. 2017), and then the sample is held still. Of the KL from
the prior to the posterior, which is another,

    sigma_i^2 d / d mu_i    = w (mu_i - m_i)
    sigma_i^3 d / d sigma_i = w (sigma_i^2 - s_i^2 - (mu_i - m_i)^2)

Where the squared distance of the means is not divided by s_i^2, the a_i of d / d mu_i is w; where it is multiplied, w s_i^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whyvae.audit.covariance import REVERSED
from whyvae.audit.cut import Cut, cut, gradient, head_values, injected
from whyvae.audit.mistaken import LOG_SIGN, NO_LOG, SIGN
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay

EXACT = 1e-3  # of the gradient, as for the other formulas
SETS = 3
NOT_DIVIDED = "the squared distance of the means is not divided by the variance of the prior"
MULTIPLIED = "the squared distance of the means is multiplied by the variance of the prior, not divided by it"


def conditional_weight(
    lineage: Lineage, replay: Replay, loss: int | None = None, *, held: bool = False
) -> tuple[float, float, str] | None:
    """(w per nat, residual, mistake in the formula or "") of a KL to a Gaussian of each example's own; None where the loss
    has no such part. `held`: that Gaussian is made of the sample.
    """
    values = head_values(lineage, replay)
    still = cut(lineage, replay, loss=loss).sample.detach() if held else None
    sets = [
        by_posterior(cut(lineage, replay, heads=injected(values, 1.0, seed), loss=loss, held=still))
        for seed in range(SETS)
    ]
    if any(s is None for s in sets):
        return None
    mu, sigma, by_mu, by_sigma = (
        torch.stack(column) for column in zip(*(s for s in sets if s is not None), strict=True)
    )
    ones, none = torch.ones_like(mu), torch.zeros_like(mu)
    a, b = torch.cat([mu, sigma]), torch.cat([-ones, none])  # [2 sets, numbers]
    entropy, wanted = torch.cat([none, -1 / sigma]), torch.cat([by_mu, by_sigma])
    left, way = _without(wanted, a, b), _without(entropy, a, b)
    weight = float((left * way).sum() / way.square().sum().clamp_min(1e-300))
    residual = float((left - weight * way).norm() / wanted.norm().clamp_min(1e-300))
    if residual < EXACT:
        mistake = _mistake(weight, _slopes(wanted - weight * entropy, a, b))
        return None if mistake is None else (weight, residual, mistake)
    turned, left_over = _reversed(mu, sigma, by_mu, by_sigma)
    if turned > 0 and left_over < EXACT:
        return turned, left_over, REVERSED
    return _of_two_precisions(mu, sigma, by_mu, by_sigma)


def _of_two_precisions(mu: Tensor, sigma: Tensor, by_mu: Tensor, by_sigma: Tensor) -> tuple[float, float, str] | None:
    """(w, what it leaves, mistake) of a KL whose means are weighed by another variance than its sigmas; None if it is none."""
    spread, entropy = (_apart(t, sigma)[1] for t in (by_sigma, -1 / sigma))
    weight = float((spread * entropy).sum() / entropy.square().sum().clamp_min(1e-300))
    means = by_mu - by_mu.mean(0)
    way = mu - mu.mean(0)
    to_mean = (means * way).sum(0) / way.square().sum(0).clamp_min(1e-300)
    left = torch.cat([means - to_mean * way, spread - weight * entropy])
    residual = float(left.norm() / torch.cat([by_mu, by_sigma]).norm().clamp_min(1e-300))
    if residual > EXACT or weight <= 0:
        return None
    precision = ((by_sigma + weight / sigma) * sigma).sum(0) / sigma.square().sum(0)  # w / s^2
    if float(precision.min()) <= EXACT * weight:  # sigma stands in no square
        return None
    for mistake, told in ((NOT_DIVIDED, torch.full_like(to_mean, weight)), (MULTIPLIED, weight**2 / precision)):
        if float((to_mean - told).norm()) <= EXACT * float(told.norm()):
            return weight, residual, mistake
    return None


def _mistake(weight: float, precision: Tensor) -> str | None:
    """What is wrong with a KL whose log sigma has this weight and whose squares have these; None if it is none."""
    size = float(precision.abs().max())
    if bool((precision < 0).all()) and weight < 0:
        return SIGN
    if not bool((precision > 0).all()):
        return None
    return "" if weight > EXACT * size else LOG_SIGN if weight < -EXACT * size else NO_LOG


def _reversed(mu: Tensor, sigma: Tensor, by_mu: Tensor, by_sigma: Tensor) -> tuple[float, float]:
    """(w, what it leaves, as a share) of KL(prior || posterior), from [sets, numbers] each."""
    pull, way = sigma**2 * by_mu, mu - mu.mean(0)
    weight = float((pull * way).sum() / way.square().sum().clamp_min(1e-300))
    off = pull - pull.mean(0) - weight * way
    offset = (pull - weight * mu).mean(0)  # -w m
    spread = sigma**3 * by_sigma
    rest = spread - weight * (sigma**2 - mu**2) + 2 * offset * mu
    left = torch.cat([off, rest - rest.mean(0)])
    positive = bool((rest.mean(0) * weight <= -(offset**2)).all())  # s^2 >= 0
    return weight if positive else -1.0, float(left.norm() / torch.cat([pull, spread]).norm().clamp_min(1e-300))


def by_posterior(step: Cut) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """(mu, sigma, d loss / d mu, d loss / d sigma) of the part beside the output, flattened; None if they cannot be told."""
    sigma = step.sigma.abs().clamp_min(1e-300)
    direct = gradient(step.loss, step.heads)
    to_mu, to_sigma = gradient(step.mu.sum(), step.heads), gradient(sigma.sum(), step.heads)
    if bool(((to_mu != 0) & (to_sigma != 0)).any()) or not bool(torch.isfinite(direct).all()):
        return None
    if int((to_mu != 0).sum()) != step.mu.numel() or int((to_sigma != 0).sum()) != step.mu.numel():
        return None
    by_mu, by_sigma = (_by_number(t, step.heads, direct, way) for t, way in ((step.mu, to_mu), (sigma, to_sigma)))
    return step.mu.detach().flatten(), sigma.detach().flatten(), by_mu, by_sigma


def _by_number(made: Tensor, heads: list[Tensor], direct: Tensor, way: Tensor) -> Tensor:
    """`direct` at the heads as a gradient at the numbers of `made`, each of which is made of one number of the heads."""
    numbers = torch.arange(1, made.numel() + 1, dtype=torch.float64).reshape(made.shape)
    coded = gradient((made * numbers).sum(), heads)
    used = way != 0
    owner = (coded[used] / way[used]).round().long() - 1
    return torch.zeros(made.numel(), dtype=torch.float64).index_add(0, owner, direct[used] / way[used])


def _apart(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(`b` of length 1, what of `a` is not along it), number by number."""
    first = b / b.norm(dim=0).clamp_min(1e-300)
    return first, a - first * (first * a).sum(0)


def _without(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`y` [equations, numbers] less its projection on `a` and `b`, number by number."""
    first, second = _apart(a, b)
    second = second / second.norm(dim=0).clamp_min(1e-300)
    left: Tensor = y - first * (first * y).sum(0) - second * (second * y).sum(0)
    return left


def _slopes(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The coefficient of `a`, beside that of `b`, number by number."""
    _, second = _apart(a, b)
    slope: Tensor = (second * y).sum(0) / second.square().sum(0).clamp_min(1e-300)
    return slope
