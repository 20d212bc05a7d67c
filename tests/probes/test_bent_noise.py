"""Noise that is made of a normal draw and is normal no more; distributions that are made of other draws on purpose."""

import math

import pytest
import torch
import torch.nn.functional as F

from whyvae.probe import Bench
from whyvae.probes.noise import Noise
from whyvae.rules.posterior.noise_wrong import NoiseWrong
from whyvae.testing import Patient
from whyvae.verdict import Finding


def on_the_sphere(mu, logvar):
    return mu + F.normalize(torch.randn_like(mu), dim=-1) * (0.5 * logvar).exp()


def on_the_sphere_by_hand(mu, logvar):
    eps = torch.randn(mu.shape)
    eps = eps / eps.norm(dim=1, keepdim=True)
    return torch.addcmul(mu, eps, (0.5 * logvar).exp())


def squashed(mu, logvar):
    return torch.tanh(torch.randn_like(mu)) * (0.5 * logvar).exp() + mu


def laplace(mu, logvar):
    u = torch.rand_like(mu) - 0.5
    return mu - (0.5 * logvar).exp() * u.sign() * torch.log1p(-2 * u.abs())


def student(mu, logvar):
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu) / torch.randn(4, *mu.shape).square().mean(0).sqrt()


@pytest.mark.parametrize(
    ("sample", "sd"), [(on_the_sphere, 0.5), (on_the_sphere_by_hand, 0.5), (squashed, math.sqrt(0.394))]
)
def test_it_is_the_noise_all_the_same(sample, sd):
    """Of 4 numbers of unit length each has variance 1 / 4; the variance of tanh of a normal draw is 0.394."""
    subject = Patient(sample=sample, steps=40).train()
    bench = Bench(subject)
    assert subject.lineage.posterior == "diagonal Gaussian"
    assert bench.get(Noise).sd == pytest.approx(sd, rel=0.03)
    assert isinstance(bench.call(NoiseWrong.check), Finding)


@pytest.mark.parametrize("sample", [laplace, student])
def test_other_posteriors_are_no_mistake(sample):
    subject = Patient(sample=sample, steps=40).train()
    assert not isinstance(Bench(subject).call(NoiseWrong.check), Finding)
