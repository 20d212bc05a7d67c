"""The weight of a likelihood that has no name, read off the spread and the bend of its gradient."""

import math

import pytest
import torch
import torch.distributions as td
from steps import VAE, B, D, audit, kl_sum

COUNTS = 4.0


def negative_binomial(x, mean):
    return td.NegativeBinomial(COUNTS, logits=(mean / COUNTS).log()).log_prob(x)


def gamma(x, mean):
    return td.Gamma(COUNTS, COUNTS / mean).log_prob(x)


def drawn(density, mean):
    shared = td.Gamma(COUNTS, COUNTS / mean).sample()
    return shared if density is gamma else torch.poisson(shared)


@pytest.mark.parametrize("density", [negative_binomial, gamma])
@pytest.mark.parametrize(("times", "weight"), [(1.0, 1.0), (1.0, 30.0), (40.0, 40.0)])
def test_the_effective_beta_of_a_density(density, times, weight):
    """Targets are drawn from the very density that the outputs state: 1 nat is 1 nat. Others' weight is known to the noise
    of the draws.
    """
    torch.manual_seed(4)
    model = VAE()
    with torch.no_grad():
        model.decoder[-2].bias.fill_(1.0)  # outputs near 1, whatever z
        model.decoder[-2].weight.mul_(0.1)
    data = drawn(density, torch.full((B, D), math.e))

    def step(x):
        y, mu, lv = model(x)
        return -times * density(x, y.exp()).sum() + weight * kl_sum(mu, lv)

    found = audit(step, data)
    assert found.likelihood.family == "density"
    assert found.s == pytest.approx(weight / times, rel=1e-6 if times == 1 else 0.5)
