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


def test_a_rate_falls_as_its_mean_rises_and_pulls_towards_the_data_all_the_same():
    torch.manual_seed(5)
    model, means = VAE(), torch.linspace(1, 20, D)
    with torch.no_grad():
        model.decoder[-2].bias.copy_(-means.log())
        model.decoder[-2].weight.mul_(0.1)
    data = drawn(gamma, means.expand(B, D))

    def step(x):
        y, mu, lv = model(x)
        return -td.Gamma(COUNTS, COUNTS * y.exp()).log_prob(x).sum() + kl_sum(mu, lv)

    found = audit(step, data)
    assert found.likelihood.falls
    assert found.objective().pull > 0.5


def test_what_a_where_asks_is_not_what_an_output_is_compared_with():
    """A discretised logistic density: a function of the difference but for the ends of the range."""
    torch.manual_seed(6)
    model, data = VAE(sigmoid=True), torch.randint(0, 3, (B, D)) / 2

    def step(x):
        y, mu, lv = model(x)
        up, low = ((x - y + 0.25) / 0.1).sigmoid(), ((x - y - 0.25) / 0.1).sigmoid()
        p = torch.where(x > 0.999, 1 - low, torch.where(x < 0.001, up, up - low))
        return -p.clamp_min(1e-7).log().sum() + kl_sum(mu, lv)

    assert audit(step, data).likelihood.family == "error"
