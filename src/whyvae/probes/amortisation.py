"""The amortisation gap: how much better each example's own posterior could be than the encoder's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from whyvae.audit.cut import posterior
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import by_example
from whyvae.probes.objective import Objective, audited_likelihood
from whyvae.probes.precision import precision_shares
from whyvae.watch.draws import DIAGONAL
from whyvae.watch.replay import Replay

STEPS = 120  # of local optimisation
ROUND = 8  # steps whose draws have mean 0 and covariance 1 together; sigma moves once in a round
RATE = 0.15  # of mu at the start, decaying to 0
AVERAGED = 24  # last steps, of which mu is the mean
EVALUATE = 16
MOST = 256  # examples
ENCODER_STEPS = 150
LEAST = 1e-7  # probability, or rate, whose logarithm is taken


@dataclass(frozen=True)
class Amortisation(Probe):
    """Nats per example gained by optimising mu and sigma of each example (Cremer, Li & Duvenaud 2018).

    Gaussian likelihoods: at calibrated variance, (D/2) log(MSE0/MSE1) - (KL1 - KL0); others: in the user's own
    objective. `after_training`: the gap left on other examples when the encoder alone is trained on, decoder frozen
    (NaN if not tried): what remains is capacity, what vanishes was lag.
    """

    gap: float
    error: float  # standard error
    gap_held_out: float
    after_training: float
    rate: float
    rows: int
    own: float = math.nan  # the gap in the user's own objective, per nat of its KL
    own_after_training: float = math.nan

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        if not objective.weight_known or objective.posterior != DIAGONAL or subject.lineage.eps < 0:
            raise CannotMeasure("needs a diagonal Gaussian posterior and a known weight")
        if not objective.closed:
            raise CannotMeasure(f"does not apply: no closed form for the likelihood ({objective.likelihood_name})")
        if subject.broken:
            raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
        game = Game(subject, objective, subject.replay)
        train = _gaps(game, subject.train)
        held = _gaps(game, subject.held_out) if subject.held_out else None
        gap, error = _mean(train[0])
        own, _ = _mean(train[2])
        after, own_after = math.nan, math.nan
        if own > 1.0:
            after, own_after = _after_encoder_training(game, subject)
        return cls(
            gap,
            error,
            _mean(held[0])[0] if held else math.nan,
            after,
            float(train[1].mean()),
            train[0].numel(),
            own,
            own_after,
        )


def _mean(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / math.sqrt(max(2, values.numel())))


class Game:
    """The negative ELBO of each example of a feed as a function of (mu, log sigma), decoder frozen."""

    def __init__(self, subject: Any, objective: Objective, replay: Replay) -> None:
        self.subject, self.objective = subject, objective
        self.lineage, self.replay = subject.lineage, replay
        self.likelihood = audited_likelihood(subject)
        self.s = objective.noise_variance
        self.features = max(1, objective.features)
        self.shares = precision_shares(subject)
        found = self.lineage.tape.slots[self.lineage.z].shape
        if len(found) > 2 and found[0] != subject.batch:
            raise CannotMeasure("does not apply: several samples per example in one step")

    def start(self, feed: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            values = self.replay.run(self.lineage.heads, feed=feed, training=False)
        heads = [values[h].detach().clone().requires_grad_() for h in self.lineage.heads]
        mu, sigma = posterior(self.lineage, self.replay, heads, feed, training=False)
        return mu.detach(), sigma.detach().expand_as(mu).abs().clamp_min(1e-8).log()

    def terms(self, feed: dict[int, Tensor], mu: Tensor, log_sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """(reconstruction in nats or SSE, KL), per example [batch]."""
        z = mu + log_sigma.exp() * eps
        target = self.lineage.target
        got = self.replay.run([self.lineage.output, target], feed={**feed, self.lineage.z: z}, training=False)
        output, t = got[self.lineage.output], got[target].double()
        output, t = (
            by_example(output.reshape(t.shape), self.subject.batch),
            by_example(t, self.subject.batch),
        )
        kl = (0.5 * (mu**2 + (2 * log_sigma).exp() - 1) - log_sigma).reshape(mu.shape[0], -1).sum(1)
        return self.cost(output, t), kl

    def cost(self, output: Tensor, target: Tensor, added: Tensor | float = 0.0) -> Tensor:
        """Of each example [batch]: its squared error, or -log p up to what the output does not change; `added` is put on top of
        the output, of probabilities on their logit, of rates on their logarithm.
        """
        family = self.objective.family
        if self.objective.gaussian:
            return self.squares(output + added - target)
        if self.objective.poisson:
            log_rate = (output if family == "poisson" else output.clamp_min(LEAST).log()) + added
            return (log_rate.exp() - target * log_rate).sum(1)
        logit = output if family == "bernoulli logits" else output.clamp(LEAST, 1 - LEAST).logit()
        return binary_cross_entropy_with_logits(logit + added, target.clamp(0, 1), reduction="none").sum(1)

    def squares(self, residual: Tensor) -> Tensor:
        """Squared error of each example, [batch], each number by the share of precision that the likelihood gives it."""
        squares = residual.square()
        return (squares if self.shares is None else squares * self.shares).sum(1)

    def nats(self, reconstruction: Tensor) -> Tensor:
        """Of the user's own objective, in units in which the KL has weight 1."""
        return reconstruction / (2 * self.s if self.objective.gaussian else self.s)

    def loss(self, reconstruction: Tensor, kl: Tensor) -> Tensor:
        return self.nats(reconstruction) + kl


def _noise(shape: torch.Size, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _draws(shape: torch.Size, count: int, seed: int) -> Tensor:
    """`count` draws of noise that have mean 0 and covariance 1 for each example, [count, *shape].

    Quadratics come out exact: a linear decoder leaves no Monte-Carlo error. With as many latents as draws only
    the variances are 1.
    """
    raw = _noise(torch.Size((count, *shape)), seed)
    rows = (raw - raw.mean(0)).reshape(count, shape[0], -1).transpose(0, 1)
    if rows.shape[2] < count:
        q, r = torch.linalg.qr(rows)
        rows = q * r.diagonal(dim1=1, dim2=2).sign()[:, None] * math.sqrt(count)
    else:
        rows = rows / rows.square().mean(1, keepdim=True).sqrt()
    return rows.transpose(0, 1).reshape(raw.shape)


def _evaluated(game: Game, feed: dict[int, Tensor], mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        parts = [game.terms(feed, mu, log_sigma, eps) for eps in _draws(mu.shape, EVALUATE, 500)]
    return torch.stack([p[0] for p in parts]).mean(0), parts[0][1]


def _gaps(game: Game, feeds: list[dict[int, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """For each example: the gap in nats, the KL at the encoder's output, the gap in the user's own objective."""
    before_r, before_k, after_r, after_k = [], [], [], []
    rows = 0
    for feed in feeds[::-1]:
        mu, log_sigma = game.start(feed)
        r0, k0 = _evaluated(game, feed, mu, log_sigma)
        best_mu, best_log = _optimised(game, feed, mu, log_sigma)
        r1, k1 = _evaluated(game, feed, best_mu, best_log)
        better = game.loss(r1, k1) < game.loss(r0, k0)
        before_r.append(r0)
        before_k.append(k0)
        after_r.append(torch.where(better, r1, r0))
        after_k.append(torch.where(better, k1, k0))
        rows += mu.shape[0]
        if rows >= MOST:
            break
    r0, k0, r1, k1 = (torch.cat(v) for v in (before_r, before_k, after_r, after_k))
    own = game.loss(r0, k0) - game.loss(r1, k1)
    if game.objective.gaussian:
        # d/2 log MSE is concave: the gain of the mean, spread over examples by each one's share of the SSE gained
        d = game.features
        mse0, mse1 = float(r0.mean()), float(r1.mean())
        slope = d / 2 * math.log(max(mse0, 1e-300) / max(mse1, 1e-300)) / max(mse0 - mse1, 1e-300)
        return slope * (r0 - r1) - (k1 - k0), k0, own
    return own, k0, own


def _optimised(game: Game, feed: dict[int, Tensor], mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Adam on mu; sigma by its own optimality condition.

    1 / sigma^2 = 1 + E[curvature], where E[curvature] = E[eps * slope] / sigma (Price 1958). A step on sigma would
    bring its noise into every step on mu.
    """
    m, v, total = mu.clone().requires_grad_(), log_sigma.clone(), torch.zeros_like(mu)
    optimizer = torch.optim.Adam([m], lr=RATE, betas=(0.9, 0.99))
    curvature = None
    for start in range(0, STEPS, ROUND):
        draws = _draws(m.shape, ROUND, start)
        seen = torch.zeros_like(v)
        for step, eps in enumerate(draws, start):
            (slope,) = torch.autograd.grad(game.nats(game.terms(feed, m, v, eps)[0]).sum(), m)
            seen += eps * slope / v.exp() / ROUND
            m.grad = slope + m.detach()
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS) ** 2
            optimizer.step()
            if step >= STEPS - AVERAGED:
                total += m.detach() / AVERAGED
        curvature = seen if curvature is None else curvature + (seen - curvature) / 3
        best = -0.5 * (1 + curvature).clamp_min(0.05).log()
        v = v + (best - v).clamp(-1, 1)
    return total, v


def _after_encoder_training(game: Game, subject: Any) -> tuple[float, float]:
    """The gap on unseen recorded batches after training the encoder alone on the others."""
    feeds = subject.train
    if len(feeds) < 4:
        return math.nan, math.nan
    fit, judge = feeds[: len(feeds) * 3 // 4], feeds[len(feeds) * 3 // 4 :]
    above = subject.deps.ancestors(subject.lineage.heads)
    mine = {i: p.detach().clone().requires_grad_() for i, p in game.replay.parameters.items() if i in above}
    optimizer = torch.optim.Adam(list(mine.values()), lr=learning_rate(subject))
    with game.replay.holding(mine):
        for step in range(ENCODER_STEPS):
            feed = fit[step % len(fit)]
            values = game.replay.run(subject.lineage.heads, feed=feed, training=False)
            mu, log_sigma = connected(game, feed, values)
            r, k = game.terms(feed, mu, log_sigma, _noise(mu.shape, 9_000 + step))
            grads = torch.autograd.grad(game.loss(r, k).mean(), list(mine.values()), allow_unused=True)
            for p, g in zip(mine.values(), grads, strict=True):
                p.grad = g
            optimizer.step()
        left = _gaps(game, judge)
        return _mean(left[0])[0], _mean(left[2])[0]


def learning_rate(subject: Any) -> float:
    """The script's largest, as far as it is one that a trial can take: that to which a schedule has fallen moves nothing."""
    rates = [o.largest_lr for o in subject.optimizers if 0 < o.largest_lr < 0.1]
    return min(max(rates, default=1e-3), 3e-3)


def connected(game: Game, feed: dict[int, Tensor], values: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    lineage = game.lineage
    at = {**feed, **{h: values[h] for h in lineage.heads}}
    zero = torch.zeros(lineage.tape.slots[lineage.eps].shape, dtype=torch.float64)
    mu = game.replay.run([lineage.z], feed={**at, lineage.eps: zero.clone()}, attached=True)[lineage.z]
    one = game.replay.run([lineage.z], feed={**at, lineage.eps: zero + 1}, attached=True)[lineage.z]
    return mu, (one - mu).abs().clamp_min(1e-8).log()
