import math

import pytest
import torch
from torch.distributions import Normal

from whyvae.models.likelihoods import Bernoulli, Categorical, Gaussian, LogisticMixture
from whyvae.models.priors import Mixture, Standard, VampPrior
from whyvae.models.table import Mixed


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_gaussian_is_torch_s_own():
    noise = Gaussian((), 0.3)
    output, x = torch.randn(2, 5, 3, 4, 4)
    wanted = -Normal(output, math.sqrt(0.3)).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(noise.nll(output, x), wanted, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (6,)])
def test_calibration_ends_at_the_mean_squared_residual(shape):
    noise = Gaussian(shape)
    output, x = torch.zeros(4000, 6), torch.randn(4000, 6) * torch.arange(1, 7)
    noise.calibrate(output, x, momentum=1.0)
    wanted = x.square().mean(0) if shape else x.square().mean()
    assert torch.allclose(noise.variance, wanted)
    at = noise.nll(output, x).mean()
    for factor in (0.9, 1.1):  # it is where the loss is least
        other = Gaussian(shape)
        other.variance.copy_(noise.variance * factor)
        assert other.nll(output, x).mean() > at


def test_bernoulli_at_the_ends_is_a_log_probability():
    output = torch.randn(3, 7)
    x = (torch.rand(3, 7) > 0.5).float()
    chance = torch.where(x == 1, output.sigmoid(), 1 - output.sigmoid())
    assert torch.allclose(Bernoulli().nll(output, x), -chance.log().sum(1), atol=1e-5)


def test_probabilities_of_all_values_sum_to_one():
    """Of one pixel: over its levels for the categorical, over its 256 values for the mixture."""
    for noise, levels in ((Categorical(7), 7), (LogisticMixture(3), 256)):
        output = torch.randn(1, noise.per_value, 1, 1).expand(levels, -1, -1, -1)
        x = (torch.arange(levels) / (levels - 1)).reshape(-1, 1, 1, 1)
        assert float((-noise.nll(output, x)).exp().sum()) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("noise", [Categorical(5), LogisticMixture(2)], ids=["categorical", "logistic mixture"])
def test_draws_follow_the_probabilities(noise):
    output = torch.randn(1, noise.per_value * 2, 1, 1)
    drawn = noise.draw(output.expand(20000, -1, -1, -1))
    assert drawn.shape == (20000, 2, 1, 1)
    levels = noise.per_value if isinstance(noise, Categorical) else 256
    grid = (torch.arange(levels) / (levels - 1)).reshape(-1, 1, 1, 1).expand(-1, 2, -1, -1)
    parts = output.reshape(1, -1, 2, 1, 1)[:, :, :1].reshape(1, -1, 1, 1)  # of the first channel
    chance = (-noise.nll(parts.expand(levels, -1, -1, -1), grid[:, :1])).exp()
    assert float(drawn[:, 0].mean()) == pytest.approx(float((chance * grid[:, 0, 0, 0]).sum()), abs=0.01)


def test_mixed_columns_add_up():
    noise = Mixed(["numeric", "binary", "categorical", "numeric"], [1, 1, 3, 1])
    output, x = torch.randn(4, 6), torch.randn(4, 6)
    x[:, 1], x[:, 2:5] = 1.0, torch.tensor([0.0, 1.0, 0.0])
    numeric = -Normal(output[:, [0, 5]], 1.0).log_prob(x[:, [0, 5]]).sum(1)
    wanted = numeric - output[:, 1].sigmoid().log() - output[:, 2:5].log_softmax(1)[:, 1]
    assert torch.allclose(noise.nll(output, x), wanted, atol=1e-5)
    drawn = noise.draw(output)
    assert torch.equal(drawn[:, 2:5].sum(1), torch.ones(4))
    assert set(drawn[:, 1].tolist()) <= {0.0, 1.0}


def test_the_closed_kl_is_what_draws_estimate():
    mu, logvar = torch.randn(1, 3), torch.randn(1, 3)
    many = mu.expand(200000, -1), logvar.expand(200000, -1)
    z = many[0] + torch.randn(200000, 3) * (0.5 * logvar).exp()
    prior = Standard(3)
    assert float(prior.kl(mu, logvar, z[:1])) == pytest.approx(
        float(super(Standard, prior).kl(*many, z).mean()), abs=0.02
    )


@torch.no_grad()
def test_learned_priors_are_densities_and_draw_from_themselves():
    examples = torch.randn(4, 5)
    vamp = VampPrior(examples, lambda x: (x[:, :2], x[:, 2:4] / 4))
    for prior in (Mixture(2, 4), vamp):
        at = torch.linspace(-12, 12, 241)
        grid = torch.cartesian_prod(at, at)
        assert float(prior.log_prob(grid).exp().sum() * 0.1**2) == pytest.approx(1, abs=0.01)
        entropy = -float((prior.log_prob(grid).exp() * prior.log_prob(grid)).sum() * 0.1**2)
        assert float(-prior.log_prob(prior.draw(20000)).mean()) == pytest.approx(entropy, abs=0.03)
    assert len(list(vamp.parameters())) == 2  # weights and examples: the encoder's are counted where they live
