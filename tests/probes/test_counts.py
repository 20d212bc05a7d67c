"""Count models: a negative binomial by its logits or by its mean, with or without the library size as an offset."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import NegativeBinomial
from torch.nn import functional as F

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.output import OutputRange
from whyvae.rules.objective.reconstruction_formula import ReconstructionFormula
from whyvae.testing import Patient, kl
from whyvae.verdict import Finding
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

GENES = 20


def counts(n):
    rates = torch.randn(n, 2) @ torch.randn(2, GENES) * 0.5
    return torch.poisson(rates.softmax(1) * 400 * torch.rand(n, 1).add(0.5))


def by_logits(mean, log_theta):
    return NegativeBinomial(log_theta.exp(), logits=(mean + 1e-8).log() - log_theta)


class ByMean:
    """Written out, as scVI does."""

    def __init__(self, mean, log_theta):
        self.mean, self.theta = mean, log_theta.exp()

    def log_prob(self, x):
        theta, total = self.theta, (self.theta + self.mean).log()
        return (
            theta * (theta.log() - total) + x * ((self.mean + 1e-8).log() - total)
            + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
        )  # fmt: skip


def trained(likelihood, offset):
    torch.manual_seed(0)
    x = counts(512)
    encoder = nn.Sequential(nn.Linear(GENES, 32), nn.Tanh(), nn.Linear(32, 4))
    decoder = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, GENES))
    log_theta = nn.Parameter(torch.zeros(GENES))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), log_theta], 3e-3)
    with Watcher() as watcher:
        for _ in range(60):
            rows = x[torch.randperm(512)[:64]]
            library = rows.sum(1, keepdim=True)
            mu, logvar = encoder(torch.log1p(1e3 * rows / library)).chunk(2, 1)
            made = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            mean = library * made.softmax(1) if offset else nn.functional.softplus(made) * 20
            optimizer.zero_grad()
            (kl(mu, logvar) - likelihood(mean, log_theta).log_prob(rows).sum()).div(64).backward()
            optimizer.step()
    return Subject.of(watcher)


@pytest.mark.parametrize("likelihood", [by_logits, ByMean])
def test_a_library_size_is_no_way_around_the_latent(likelihood):
    assert not trained(likelihood, offset=True).limits()


def test_the_range_of_a_logit_says_nothing_of_counts():
    with pytest.raises(CannotMeasure, match="units of its own"):
        Bench(trained(by_logits, offset=True)).get(OutputRange)


@pytest.mark.parametrize("offset", [False, True])
def test_the_range_of_a_mean_does(offset):
    found = Bench(trained(ByMean, offset=offset)).get(OutputRange)
    assert found.low == pytest.approx(0, abs=1e-6)
    assert found.high == math.inf  # the total of one batch is no wall to another


@pytest.mark.parametrize(("beside", "low", "high"), [
    (lambda scale: scale.exp(), 0.0, math.inf), (lambda scale: scale, 0.0, math.inf), (lambda scale: 2.5, 0.0, 2.5),
])  # fmt: skip
def test_a_learned_scale_behind_an_activation_is_no_wall(beside, low, high):
    scale = torch.nn.Parameter(torch.ones(()))
    patient = Patient(
        output=lambda y: y.sigmoid() * beside(scale), optimised=lambda m: [*m.parameters(), scale], steps=20
    )
    found = Bench(patient.train()).get(OutputRange)
    assert (found.low, found.high) == (low, high)


def test_something_learned_that_is_added_leaves_no_range():
    shift = torch.nn.Parameter(torch.zeros(()))
    patient = Patient(output=lambda y: y.sigmoid() + shift, optimised=lambda m: [*m.parameters(), shift], steps=20)
    found = Bench(patient.train()).get(OutputRange)
    assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(("log_input", "ill"), [(True, True), (False, False)])
def test_a_rate_under_a_loss_on_logarithms(log_input, ill):
    def poisson(output, x, mu, logvar):
        return (F.poisson_nll_loss(output, x, log_input=log_input, reduction="sum") + kl(mu, logvar)) / x.shape[0]

    rates = torch.rand(512, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[2.0, 0.4, 6.0], [0.5, 0.3, 3.0]]
    )
    rows = torch.poisson(rates, generator=torch.Generator().manual_seed(1))
    subject = Patient(data=rows, output=F.softplus, loss=poisson, steps=60).train()
    assert Bench(subject).get(OutputRange).rare == pytest.approx(1 / 3 if log_input else 0)
    assert isinstance(Bench(subject).call(ReconstructionFormula.check), Finding) is ill
