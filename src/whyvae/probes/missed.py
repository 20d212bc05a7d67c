"""The directions along which reconstructions miss the data, on examples held back: what more latents would carry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import by_example
from whyvae.probes.floor import LEAST, split
from whyvae.probes.latents import LatentUsage
from whyvae.probes.objective import Objective, audited_likelihood

FEWEST, MOST = 2, 8  # more units: as many as there are, within these
ROWS = 2048
# Of the data's variance: of 103 healthy runs of the bank, whose families are not those it is examined on, the most was 0.084.
MISSED = 0.1
THIN = 0.05  # standard deviations of a Bernoulli pixel below it count as it


@dataclass(frozen=True)
class MissedDirections(Probe):
    """The score test of further latent units, read out linearly (Rao 1948): a unit pays where the residual at the
    posterior mean varies along a direction by more than the noise variance, by 0.5 (l / s - 1 - log(l / s)) nats.

    Directions are fitted on three of four recorded examples and l measured on the fourth, so that sampling noise gains
    nothing. s is the best noise variance (the mean squared residual); of Bernoulli likelihoods residuals are in units
    of their own standard deviation, and s is 1. `before`, `after`: share of the data's variance that reconstructions miss,
    without and with `added` units.
    """

    nats: float
    before: float
    after: float
    added: int
    rows: int

    @property
    def large(self) -> bool:
        """More than any model misses whose parts are large enough."""
        return self.before - self.after > MISSED

    @classmethod
    def measure(cls, subject: Any, objective: Objective, usage: LatentUsage) -> Self:
        outputs, targets = _means(subject)
        fit, judge = split(targets)
        if min(fit.numel(), judge.numel()) < LEAST:
            raise CannotMeasure(f"needs about {4 * LEAST} different examples, saw {fit.numel() + judge.numel()}")
        added = further(usage.units)
        residual = targets - outputs
        plain, s = _along(residual, fit, judge, added), float(residual[judge].square().mean())
        total = float(targets[judge].var(0, correction=0).sum())
        before = float(residual[judge].square().sum(1).mean()) / max(total, 1e-300)
        gained = sum(v - s for v in plain if v > s) / max(total, 1e-300)
        if objective.bernoulli:
            sd = (outputs * (1 - outputs)).clamp_min(0).sqrt().clamp_min(THIN)
            plain, s = _along(residual / sd, fit, judge, added), 1.0
        nats = sum(0.5 * (v / s - 1 - math.log(v / s)) for v in plain if v > s)
        return cls(nats, before, before - gained, added, judge.numel())


def further(units: int) -> int:
    """How many more units are tried beside so many."""
    return min(MOST, max(FEWEST, units))


def _along(residual: Tensor, fit: Tensor, judge: Tensor, count: int) -> list[float]:
    """Variance of the judged residuals along the first principal directions of the fitted ones."""
    mean = residual[fit].mean(0)
    directions = torch.linalg.svd(residual[fit] - mean, full_matrices=False).Vh[:count]
    along: list[float] = ((residual[judge] - mean) @ directions.T).square().mean(0).tolist()
    return along


def _means(subject: Any) -> tuple[Tensor, Tensor]:
    """(Outputs at the posterior mean in data space, targets), [n, D] each, in evaluation mode."""
    lineage, likelihood = subject.lineage, audited_likelihood(subject)
    if likelihood is None or lineage.eps < 0:
        raise CannotMeasure("does not apply: no noise of the posterior to leave out")
    shape, outputs, targets = subject.tape.slots[lineage.eps].shape, [], []
    for feed in subject.train:
        fed = {**feed, lineage.eps: torch.zeros(shape, dtype=torch.float64)}
        with torch.no_grad():
            got = subject.replay.run([lineage.output, lineage.target], feed=fed, training=False)
        output, target = likelihood.pair(got[lineage.output], got[lineage.target])
        if output.numel() != target.numel():
            raise CannotMeasure("does not apply: output and target have different sizes")
        outputs.append(by_example(output.reshape(target.shape), subject.batch))
        targets.append(by_example(target, subject.batch))
        if sum(t.shape[0] for t in targets) >= ROWS:
            break
    return torch.cat(outputs), torch.cat(targets)
