"""The KL part of a loss, read from its gradient: weight, formula, and which mistake it is if it is one.

A Gaussian KL has four gradients: of mu^2/2, sigma^2/2, -log sigma and mu. KL(q || N(0, 1)) uses the first three
with one coefficient, its weight; KL(q || N(m, s^2)) gives c1 = c2 = w/s^2, c3 = w, c4 = -w m / s^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from whyvae.audit.conditional import conditional_weight
from whyvae.audit.coupled import coupled
from whyvae.audit.covariance import along_density, log_volume, whitened
from whyvae.audit.cut import Cut, cut, gradient, head_values, injected
from whyvae.audit.flow import flows_to_normal, prior_flows_to_normal
from whyvae.audit.mistaken import AVERAGED, LOG_SIGN, NO_LOG, SIGN, mistaken
from whyvae.audit.path import path_weight
from whyvae.audit.solve import least_squares, positive
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay

EXACT = 1e-3  # residual up to which a formula counts as met: rounding and guards (+1e-8) stay below 1e-6,
# every wrong formula tried lies above 5e-3
STRAIGHT = (
    1e-6  # residual up to which a prior counts as a Gaussian: rounding; components that start alike are further from it
)
ALIKE = 1.25  # coefficients of a KL's terms differ by no more where another regulariser stands beside it
NOTHING = 1e-12  # a gradient this much smaller than the reconstruction's is none at all


@dataclass(frozen=True, slots=True)
class Regulariser:
    """What the loss does to the posterior directly.

    `weight` is per nat of the KL summed over the batch, in the units of the loss. `form` is one of
    "exact", "learned prior", "prior density", "free bits", "none", "wrong", "unknown"; `mistake` names a wrong one. A
    "prior density" is any p in log q(z|x) - log p(z) at the sample: a mixture, a VampPrior (Tomczak & Welling 2018).
    """

    form: str
    weight: float
    coefficients: tuple[float, float, float, float] = (
        0.0,
        0.0,
        0.0,
        0.0,
    )  # mu^2/2, sigma^2/2, -log sigma, mu
    residual: float = 0.0
    mistake: str = ""
    prior_mean: float = 0.0
    prior_sd: float = 1.0
    gated: float = 0.0  # share of latent units without a KL gradient here (free bits)
    monte_carlo: bool = False
    by_path: bool = False  # of a Monte-Carlo KL: q is held fixed in log q
    scale: float = 0.0  # of the head injection it was read at
    flow: bool = False  # the sample goes through a normalising flow before it is decoded
    flow_prior: bool = False  # the prior is a normalising flow
    conditional: bool = False  # each example has a prior of its own
    held: bool = False  # read with the sample held still: beside what else is made of that
    uneven: bool = False  # units have different weights, of which `weight` is the smallest
    coupled: bool = False  # examples are also compared with each other, and the weight is rough
    notes: tuple[str, ...] = field(default=())

    @property
    def own_prior(self) -> bool:
        """Is the model's prior another than N(0, I)?"""
        return self.form in {"learned prior", "prior density"}

    @property
    def only_entropy(self) -> bool:
        """Are the heads touched by -log sigma alone?"""
        c1, c2, c3, c4 = self.coefficients
        return self.form == "wrong" and not self.conditional and c3 > 0 and max(abs(c1), abs(c2), abs(c4)) <= EXACT * c3

    @property
    def weighed(self) -> bool:
        """Is this a KL of the posterior, whose weight is known?"""
        return self.own_prior or self.form in {"exact", "free bits"}


def audit_regulariser(lineage: Lineage, replay: Replay, loss: int | None = None) -> Regulariser:
    """Fits the KL part at injected heads: scale 1, others where formulas are gated or clamped.

    Scale 4 is for what only a large KL shows: max(KL, free nats) has no gradient below, |KL - C| the other sign.
    """
    values = head_values(lineage, replay)
    best: Regulariser | None = None
    for scale in (1.0, 2.0, 0.3, 0.0, 4.0):
        if scale > 2 and best is not None and best.form != "none" and best.mistake != SIGN:
            break
        step = cut(lineage, replay, heads=injected(values, scale) if scale else values, loss=loss)
        found = _fit(step, scale)
        if best is None or _better(found, best):
            best = found
        if best.form == "exact" and scale == 1.0:
            break
    assert best is not None  # noqa: S101 - the loop ran
    if best.only_entropy and flows_to_normal(lineage, replay, best.weight, loss):
        return replace(best, form="prior density", mistake="", monte_carlo=True, flow=True)
    density = best.only_entropy or best.form == "prior density"
    if density and prior_flows_to_normal(lineage, replay, best.weight, loss):
        return replace(best, form="prior density", mistake="", monte_carlo=True, flow_prior=True)
    if best.form == "unknown":
        own = _of_own_prior(lineage, replay, loss) or _with_samples_held(lineage, replay, values, loss)
        own = own or _of_own_prior(lineage, replay, loss, held=True)
        if own is not None:
            return own
    if best.form == "unknown" and (along := path_weight(lineage, replay, loss)) is not None:
        c = (0.0, 0.0, along[0], 0.0)
        return Regulariser("prior density", along[0], c, along[1], monte_carlo=True, by_path=True)
    unnamed = best.form == "wrong" and best.residual > 0 and not best.monte_carlo and best.mistake not in AVERAGED
    unexplained = best.form == "unknown" or unnamed
    if unexplained and coupled(lineage, replay, values, loss):
        # of "unknown" it was asked above
        closed = _with_samples_held(lineage, replay, values, loss) if unnamed else None
        return closed or _beside_a_kl(best)
    return best


def _of_own_prior(lineage: Lineage, replay: Replay, loss: int | None, *, held: bool = False) -> Regulariser | None:
    """A KL to a Gaussian of each example's own, right or with a mistake that has a name; None if it is none."""
    own = conditional_weight(lineage, replay, loss, held=held)
    if own is None:
        return None
    weight, residual, mistake = own
    form, c = "wrong" if mistake else "prior density", (0.0, 0.0, weight, 0.0)
    return Regulariser(form, weight, c, residual, mistake, conditional=True, held=held)


def _with_samples_held(lineage: Lineage, replay: Replay, values: list[Tensor], loss: int | None) -> Regulariser | None:
    """The KL of closed form beside a comparison of samples (an MMD), which feels the heads through the samples alone; None
    where something else is left when these are held still.
    """
    still = cut(lineage, replay, heads=values, loss=loss).sample.detach()
    step = cut(lineage, replay, heads=injected(values, 1.0), loss=loss, held=still)
    direct = gradient(step.loss, step.heads)
    coefficients, residual = least_squares(_basis(step), direct)
    c1, c2, c3, c4 = (float(c) for c in coefficients)
    if residual > EXACT or min(c1, c2, c3) <= EXACT * max(c1, c2, c3):
        return None
    found = _named(step, c1, c2, c3, c4, {"coefficients": (c1, c2, c3, c4), "residual": residual, "scale": 1.0})
    return replace(found, held=True, coupled=coupled(lineage, replay, values, loss))


def _beside_a_kl(found: Regulariser) -> Regulariser:
    """What was fitted to a loss that also compares examples: the KL beside that, where its terms still agree."""
    c1, c2, c3, _ = found.coefficients
    alike = min(c1, c2, c3) > 0 and max(c1, c2, c3) <= ALIKE * min(c1, c2, c3)
    return replace(found, form="exact" if alike else "unknown", mistake="", coupled=True)


def _better(new: Regulariser, old: Regulariser) -> bool:
    order = {"exact": 0, "learned prior": 1, "prior density": 1, "free bits": 2, "wrong": 3, "unknown": 4, "none": 5}
    return (order[new.form], new.residual) < (order[old.form], old.residual)


def _fit(step: Cut, scale: float) -> Regulariser:
    direct = gradient(step.loss, step.heads)
    back = gradient(step.loss, [step.z])
    if not torch.isfinite(direct).all():
        return Regulariser("unknown", float("nan"), residual=float("inf"), scale=scale)
    if float(direct.norm()) == 0:
        if not bool(torch.isfinite(step.loss)):  # of a loss that is no number, parts may never have been computed
            return Regulariser("unknown", float("nan"), residual=float("inf"), scale=scale)
        return Regulariser("none", 0.0, scale=scale)
    basis = _basis(step)
    coefficients, residual = least_squares(basis, direct)
    c1, c2, c3, c4 = (float(c) for c in coefficients)
    common = {"coefficients": (c1, c2, c3, c4), "residual": residual, "scale": scale}
    if residual < EXACT:
        return _named(step, c1, c2, c3, c4, common)
    if direct.norm() <= NOTHING * float(back.norm()):  # rounding; a KL beside a loss that explodes is met above
        return Regulariser("none", 0.0, scale=scale)
    mixed = _monte_carlo(step, direct)
    if mixed is not None and mixed < 0:
        return Regulariser("wrong", mixed, mistake=SIGN, monte_carlo=True, residual=0.0, scale=scale,
                           coefficients=(mixed, mixed, mixed, 0.0))  # fmt: skip
    if mixed is not None:
        return Regulariser("exact", mixed, monte_carlo=True, residual=0.0, scale=scale,
                           coefficients=(mixed, mixed, mixed, 0.0))  # fmt: skip
    by_unit = _per_unit(step, direct, basis) if step.factor is None else None
    if by_unit is not None:
        return by_unit
    by_path = _by_path(step, direct, scale)
    if by_path is not None:
        return by_path
    density = _density(step, direct, scale) if step.factor is None else _density_of_full(step, direct, scale)
    if density is not None:
        return density
    at_sample = _wrong_at_sample(step, direct, scale)
    if at_sample is not None:
        return at_sample
    mistake, _, share = mistaken(step.mu, step.sigma, step.heads, direct, step.factor)
    if mistake and share < EXACT:
        return Regulariser("wrong", c3, mistake=mistake, **{**common, "residual": residual})  # type: ignore[arg-type]
    return Regulariser("unknown", c3, **common)  # type: ignore[arg-type]


def _named(step: Cut, c1: float, c2: float, c3: float, c4: float, common: dict[str, object]) -> Regulariser:
    """The formula that four exact coefficients spell."""
    top = max(abs(c1), abs(c2), abs(c3), abs(c4))

    def same(a: float, b: float) -> bool:
        return abs(a - b) <= EXACT * top

    if _fixed_sigma(step) and c1 > 0 and same(c4, 0):
        return Regulariser("exact", c1, **common)  # type: ignore[arg-type]
    if c1 > 0 and same(c1, c2) and same(c2, c3) and same(c4, 0):
        return Regulariser("exact", c3, **common)  # type: ignore[arg-type]
    if c3 > EXACT * top and c1 > EXACT * top and same(c1, c2):
        return Regulariser(
            "learned prior",
            c3,
            prior_mean=-c4 / c1,
            prior_sd=(c3 / c1) ** 0.5,
            **common,  # type: ignore[arg-type]
        )
    return Regulariser("wrong", c3, mistake=_mistake(c1, c2, c3, c4, same), **common)  # type: ignore[arg-type]


def _mistake(c1: float, c2: float, c3: float, c4: float, same: object) -> str:
    assert callable(same)  # noqa: S101 - typed loosely to stay a local closure
    if c1 <= 0 and c2 <= 0 and c3 <= 0 and (c1 < 0 or c2 < 0 or c3 < 0):
        return SIGN
    if same(c1, 0) and not same(c4, 0):
        return "mu enters as mu, not as mu squared"
    if same(c1, 0) and not same(c3, 0):
        return "the mu^2 term is missing"
    if same(c3, 0) and not same(c2, 0):
        return NO_LOG
    if same(c2, 0) and not same(c3, 0):
        return "the variance term is missing: nothing keeps sigma from growing"
    if same(c2, 0) and same(c3, 0):
        return "only mu is penalised: sigma is free"
    if c3 < 0 < c2:
        return LOG_SIGN
    if c2 < 0 < c3:
        return "the variance term has the wrong sign"
    if c1 < 0:
        return "the mu^2 term has the wrong sign"
    return f"its terms have different weights (mu^2 {c1:.3g}, sigma^2 {c2:.3g}, -log sigma {c3:.3g}): the optimum is not N(0, I)"


def _fixed_sigma(step: Cut) -> bool:
    """Is sigma the same whatever the heads are?"""
    return not step.sigma.requires_grad or bool(gradient(step.sigma.sum(), step.heads).abs().max() == 0)


def _basis(step: Cut) -> Tensor:
    mu, sigma = step.mu, positive(step.sigma)
    terms = ((mu**2).sum() / 2, (sigma**2).sum() / 2, _entropy(step), mu.sum())
    return torch.stack([gradient(t, step.heads) for t in terms], 1)


def _entropy(step: Cut) -> Tensor:
    """-log of the posterior's volume, summed over the batch: less its entropy, up to a constant."""
    if step.factor is not None:
        return -log_volume(step.factor).sum()
    return -positive(step.sigma).log().sum()


def _monte_carlo(step: Cut, direct: Tensor) -> float | None:
    """Weight of log q(z|x) - log p(z) at the sample, differentiated through z; None if it is not that."""
    weight, other, residual = _at_sample(step, direct)
    if _fixed_sigma(step) and weight > 0:
        other = weight  # log sigma is a constant, and has no gradient
    return weight if residual < EXACT and abs(weight - other) <= EXACT * abs(weight) else None


def _at_sample(step: Cut, direct: Tensor) -> tuple[float, float, float]:
    """(Weight of z^2 / 2, weight of -log sigma, what they leave of `direct`), z the sample."""
    prior = gradient((step.sample**2).sum() / 2, step.heads)
    entropy = gradient(_entropy(step), step.heads)
    coefficients, residual = least_squares(torch.stack([prior, entropy], 1), direct)
    return float(coefficients[0]), float(coefficients[1]), residual


def _wrong_at_sample(step: Cut, direct: Tensor, scale: float) -> Regulariser | None:
    """A log q(z|x) - log p(z) whose log sigma is missing, or has the wrong sign; None if it is not that."""
    weight, entropy, residual = _at_sample(step, direct)
    if residual > EXACT or weight <= 0 or entropy > EXACT * weight:
        return None
    entropy, mistake = (0.0, NO_LOG) if entropy > -EXACT * weight else (entropy, LOG_SIGN)
    c = (weight, weight, entropy, 0.0)
    return Regulariser("wrong", weight, c, residual, mistake, scale=scale, monte_carlo=True)


def _by_path(step: Cut, direct: Tensor, scale: float) -> Regulariser | None:
    """Log q(z|x) - log p(z) at the sample, q held fixed but for the path through z (Roeder, Wu & Duvenaud 2017), p a
    Gaussian; None if it is not that.

    What is left out of the gradient, the score of q, is 0 on average: this is the KL with other noise.
    """
    z, mu = step.sample, step.mu.detach()
    full, alone = step.factor, positive(step.sigma)
    eps = (z - mu) / alone.detach() if full is None else whitened(full.detach(), z - mu)
    terms = ((z**2).sum() / 2, z.sum(), -(eps**2).sum() / 2)
    (c1, c4, weight), residual = least_squares(torch.stack([gradient(t, step.heads) for t in terms], 1), direct)
    c1, c4, weight = float(c1), float(c4), float(weight)
    if residual > EXACT or c1 <= 0 or weight <= EXACT * c1:
        return None
    standard = abs(c1 - weight) <= EXACT * weight and abs(c4) <= EXACT * weight
    return Regulariser(
        "exact" if standard else "learned prior", weight, (c1, c1, weight, c4), residual, prior_mean=-c4 / c1,
        prior_sd=(weight / c1) ** 0.5, scale=scale, monte_carlo=True, by_path=True,
    )  # fmt: skip


def _density(step: Cut, direct: Tensor, scale: float) -> Regulariser | None:
    """Weight of log q(z|x) - log p(z) at the sample, whatever p is; None if it is not that.

    p is a function of z alone, and z = mu + sigma eps, so each number of z has one unknown, v = -w d log p / dz, for
    its two equations, d loss / d mu = v and d loss / d sigma = eps v - w / sigma. Without v they leave one equation
    each, all with the same w.
    """
    number, z = _numbers(step)
    owner = _owner(step, number)
    if owner is None or bool((direct[owner < 0] != 0).any()):
        return None
    used, at = owner >= 0, owner[owner >= 0]
    way = gradient(step.sample.sum(), step.heads)[used]  # of z by the heads, number by number
    entropy, left = gradient(-positive(step.sigma).log().sum(), step.heads)[used], direct[used]
    none = torch.zeros(z.numel(), dtype=torch.float64)
    size = none.index_add(0, at, way**2).clamp_min(1e-300)

    def along(g: Tensor) -> Tensor:
        return none.index_add(0, at, g * way) / size

    rest, wanted = left - way * along(left)[at], entropy - way * along(entropy)[at]
    weight = float(rest @ wanted / (wanted @ wanted).clamp_min(1e-300))
    residual = float((rest - weight * wanted).norm() / rest.norm().clamp_min(1e-300))
    if weight <= 0 or residual > EXACT:
        return None
    gaussian = _gaussian(z, along(left - weight * entropy).reshape(z.shape) / weight)
    common = {"weight": weight, "residual": residual, "monte_carlo": True, "scale": scale}
    if gaussian is None:
        return Regulariser("prior density", coefficients=(0.0, 0.0, weight, 0.0), **common)  # type: ignore[arg-type]
    slope, start = gaussian  # of each unit: -d log p / dz = slope z + start
    if float(slope.min()) <= 0:
        return None
    c1, c4 = weight * float(slope.mean()), weight * float(start.mean())
    return Regulariser(
        "learned prior", coefficients=(c1, c1, weight, c4), prior_mean=float((-start / slope).mean()),
        prior_sd=float(slope.rsqrt().mean()), **common,  # type: ignore[arg-type]
    )  # fmt: skip


def _density_of_full(step: Cut, direct: Tensor, scale: float) -> Regulariser | None:
    """As `_density`, where an example's heads make all its numbers of z together."""
    rows, (z, factors) = step.mu.shape[0], (step.sample.flatten(1), step.factor)
    if factors is None or any(h.shape[:1] != (rows,) for h in step.heads):
        return None

    def by_row(g: Tensor) -> Tensor:
        parts = g.split([h.numel() for h in step.heads])
        return torch.cat([p.reshape(rows, -1) for p in parts], 1)

    ways = torch.stack([by_row(gradient(z[:, j].sum(), step.heads)) for j in range(z.shape[1])], 1)
    entropy = by_row(gradient(_entropy(step), step.heads))
    weight, residual = along_density(by_row(direct), entropy, ways)
    if weight <= 0 or residual > EXACT:
        return None
    return Regulariser(
        "prior density", weight, (0.0, 0.0, weight, 0.0), residual, monte_carlo=True, scale=scale,
    )  # fmt: skip


def _gaussian(z: Tensor, pull: Tensor) -> tuple[Tensor, Tensor] | None:
    """Slope and intercept of `pull` [b, ...] as a straight line in z, unit by unit; None where it is none."""
    if z.dim() < 2 or z.shape[0] < 3:
        return None
    x, y = z.flatten(1), pull.flatten(1)
    x0, y0 = x.mean(0), y.mean(0)
    slope = ((x - x0) * (y - y0)).sum(0) / (x - x0).square().sum(0).clamp_min(1e-300)
    rest = y - y0 - slope * (x - x0)
    return (slope, y0 - slope * x0) if float(rest.norm()) <= STRAIGHT * float(y.norm()) else None


def _per_unit(step: Cut, direct: Tensor, basis: Tensor) -> Regulariser | None:
    """The fit done for each latent unit alone: free bits (weight 0 or w) or a prior with its own mean and scale."""
    units = _unit_of_head(step)
    if units is None:
        return None
    rows = [(units == j) for j in range(int(units.max()) + 1)]
    size = float(direct.norm())
    gated, fits, worst = 0, [], 0.0
    for row in rows:
        if not row.any():
            continue
        g = direct[row]
        if g.norm() <= 1e-9 * size:
            gated += 1
            continue
        coefficients, residual = least_squares(basis[row], g)
        fits.append(coefficients)
        worst = max(worst, residual)
    if not fits or worst > EXACT:
        return None
    c = torch.stack(fits)
    weight, spread = float(c[:, 2].mean()), float(c[:, 2].std(correction=0))
    equal = float((c[:, 0] - c[:, 1]).abs().max()) <= EXACT * float(c.abs().max())
    if weight <= 0 or not equal:
        return None
    if spread > 1e-2 * weight:
        return None if gated else _uneven(c, worst)
    standard = float((c[:, 0] - c[:, 2]).abs().max()) <= EXACT * weight and float(c[:, 3].abs().max()) <= EXACT * weight
    total = gated + len(fits)
    means = c.mean(0)
    return Regulariser(
        "free bits" if standard else "learned prior", weight,
        (float(means[0]), float(means[1]), float(means[2]), float(means[3])), worst, gated=gated / total,
        prior_mean=float((-c[:, 3] / c[:, 0]).mean()), prior_sd=float((c[:, 2] / c[:, 0]).clamp_min(0).sqrt().mean()),
    )  # fmt: skip


def _uneven(c: Tensor, residual: float) -> Regulariser | None:
    """Units that each have a KL to N(0, 1), of different weights (two latents side by side, each with its own beta)."""
    weights = c[:, 2]
    if float(weights.min()) <= 0 or float((c[:, 0] / weights - 1).abs().max()) > EXACT:
        return None
    if float((c[:, 3] / weights).abs().max()) > EXACT:
        return None
    w = float(weights.min())
    return Regulariser("exact", w, (w, w, w, 0.0), residual, uneven=True)


def _unit_of_head(step: Cut) -> Tensor | None:
    """For each element of the heads, the latent unit (index in an example) it belongs to; None if they mix."""
    mu = step.mu
    if mu.dim() < 2 or mu[0].numel() > 4096:
        return None
    return _owner(step, torch.arange(mu[0].numel(), dtype=torch.float64).reshape(mu[0].shape).expand(mu.shape))


def _numbers(step: Cut) -> tuple[Tensor, Tensor]:
    """(For each element of mu its number of z, counted from 0; the values of z by that number.) Samples of one posterior that
    have the same noise (see audit/cut.py) are one.
    """
    mu, z = step.mu.detach(), step.sample.detach()
    every = torch.arange(mu.numel(), dtype=torch.float64).reshape(mu.shape)
    if mu.dim() < 2:
        return every, z
    units = mu.shape[-1]
    rows = torch.cat([t.expand_as(mu).reshape(-1, units) for t in (mu, step.sigma.detach(), z)], 1)
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    count = int(group.max()) + 1
    if count == len(rows):
        return every, z
    number = group[:, None] * units + torch.arange(units)
    return number.double().reshape(mu.shape), z.new_zeros(count, units).index_copy(0, group, z.reshape(-1, units))


def _owner(step: Cut, number: Tensor) -> Tensor | None:
    """`number` of the element of mu and sigma that each element of the heads enters, -1 for none; None if it enters several."""
    mu, sigma = step.mu, step.sigma
    code = number + 1
    generator = torch.Generator().manual_seed(5)
    dice = [torch.rand(mu.shape, generator=generator, dtype=torch.float64) + 0.5 for _ in range(2)]
    plain = gradient((mu * dice[0] + sigma * dice[1]).sum(), step.heads)
    coded = gradient(((mu * dice[0] + sigma * dice[1]) * code).sum(), step.heads)
    used = plain.abs() > 0
    ratio = torch.where(used, coded / torch.where(used, plain, torch.ones_like(plain)), torch.zeros_like(plain))
    whole = ratio.round()
    if (ratio - whole).abs().max() > 1e-6 or whole.min() < 0 or whole.max() > code.max():
        return None
    return whole.long() - 1
