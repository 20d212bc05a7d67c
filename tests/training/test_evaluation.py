import math

import numpy as np
import pytest
import torch

from whyvae.data import Codec, Column, Dataset, load
from whyvae.data.raw import Raw
from whyvae.evaluation import evaluate
from whyvae.marginal import annealed, importance_weighted
from whyvae.models.build import ModelConfig, build
from whyvae.pictures import grid
from whyvae.sampling import draws, generated, interpolated, reconstructed, traversed
from whyvae.train import train
from whyvae.training.run import TrainConfig


@pytest.fixture(scope="module")
def digits():
    return load("sklearn:digits")


@pytest.fixture(scope="module")
def trained(digits):
    return train(digits, ModelConfig(latents=4, widths=(64,)), TrainConfig(steps=500, seed=1))


def linear(features=6, latents=2):
    """A linear VAE whose log density is known: N(b, W W' + s I); its posterior is off, so that weights vary."""
    random = np.random.default_rng(0)
    data = Dataset.of(Raw(random.normal(size=(64, features)), kind="vector"), "rows")
    codec = Codec.of(data, to_range=False)
    torch.manual_seed(0)
    x = codec.encode(data.take(slice(None)))
    model = build(ModelConfig("linear", latents, (), likelihood="gaussian"), codec, x)
    w, b = model.decoder.out.weight.detach(), model.decoder.out.bias.detach()
    s = float(model.likelihood.variance)
    truth = torch.distributions.MultivariateNormal(b, w @ w.T + s * torch.eye(features))
    with torch.no_grad():  # the exact posterior's mean, with half its variance too much
        precision = torch.eye(latents) + w.T @ w / s
        model.encoder.mu.weight.copy_(torch.linalg.solve(precision, w.T / s))
        model.encoder.mu.bias.copy_(-torch.linalg.solve(precision, w.T @ b / s))
        model.encoder.logvar.copy_((1.5 / precision.diagonal()).log())
    return model, x, -truth.log_prob(x)


def test_importance_weighting_finds_the_exact_likelihood_and_its_own_error():
    model, x, truth = linear()
    torch.manual_seed(0)
    found = importance_weighted(model, x, 2000)
    assert found.nats == pytest.approx(float(truth.mean()), abs=4 * found.error + 0.002)
    assert found.spread == pytest.approx(float(truth.std()) / 8, rel=0.05)
    again = [importance_weighted(model, x, 200) for _ in range(40)]
    scatter = float(np.std([a.nats for a in again], ddof=1))
    assert np.mean([a.error for a in again]) == pytest.approx(scatter, rel=0.4)  # 40 runs know it to a ninth


def test_annealing_finds_the_exact_likelihood_and_its_own_error():
    model, x, truth = linear()
    torch.manual_seed(0)
    found = annealed(model, x[:32], chains=32, temperatures=100, leaps=5)
    assert found.nats == pytest.approx(float(truth[:32].mean()), abs=4 * found.error + 0.002)
    assert (found.rows, found.draws) == (32, 32)
    again = [annealed(model, x[:8], chains=8, temperatures=20, leaps=3) for _ in range(30)]
    scatter = float(np.std([a.nats for a in again], ddof=1))
    assert np.mean([a.error for a in again]) == pytest.approx(scatter, rel=0.4)


def test_annealing_does_not_ask_the_encoder():
    """An encoder that is far off spoils importance weighting, and nothing of annealing."""
    model, x, truth = linear()
    with torch.no_grad():
        model.encoder.mu.weight.zero_()
        model.encoder.mu.bias.fill_(3.0)
        model.encoder.logvar.fill_(-4.0)
    torch.manual_seed(0)
    exact, weighted, found = (
        float(truth[:32].mean()),
        importance_weighted(model, x[:32]),
        annealed(model, x[:32], temperatures=100, leaps=5),
    )
    assert weighted.nats > exact + 1.0
    assert found.nats == pytest.approx(exact, abs=4 * found.error + 0.002)


def test_an_evaluation_adds_up(trained, digits):
    found = evaluate(trained, digits)
    assert found.elbo == pytest.approx(found.rate + found.distortion)
    assert found.likelihood.nats < found.elbo
    assert 1 <= found.active <= found.units == 4
    assert 0 <= found.quality_of_samples <= 1
    assert found == evaluate(trained, digits)
    assert "nats" in found.describe()


@pytest.mark.parametrize("sampler", ["prior", "gmm", "two-stage"])
def test_every_sampler_stays_in_the_range_and_repeats_itself(trained, digits, sampler, monkeypatch):
    monkeypatch.setattr("whyvae.sampling.SECOND_STAGE", 50)
    before = torch.get_rng_state()
    one, other = (generated(trained, draws(trained, 40, sampler, digits, 3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.shape == (40, 1, 8, 8)
    assert torch.equal(one, other)
    assert one.clamp(0, 16).equal(one)
    assert float(one.std(0).mean()) > 1


def test_two_stages_and_a_mixture_land_where_encodings_lie(monkeypatch):
    """The encodings of a prior that was missed: N(3, 0.1)."""
    monkeypatch.setattr("whyvae.sampling.SECOND_STAGE", 300)
    data = load("sklearn:digits")
    made = train(data, ModelConfig(latents=2, widths=(16,)), TrainConfig(steps=20))
    with torch.no_grad():
        made.model.encoder.mu.weight.mul_(0.1)
        made.model.encoder.mu.bias.fill_(3.0)
        made.model.encoder.logvar.weight.zero_()
        made.model.encoder.logvar.bias.fill_(-4.6)
    for sampler in ("gmm", "two-stage"):
        z = draws(made, 500, sampler, data, 0)
        assert torch.allclose(z.mean(0), torch.full((2,), 3.0), atol=0.1), sampler


def test_walks_through_the_latent_space(trained, digits):
    rows = digits.take(slice(0, 3))
    back = reconstructed(trained, rows)
    assert float((back - rows).square().mean()) < 0.5 * float(rows.var())
    path = interpolated(trained, rows[:2], rows[1:], steps=5)
    assert path.shape == (2, 5, 1, 8, 8)
    assert torch.allclose(path[:, 0], back[:2], atol=1e-3)
    assert torch.allclose(path[:, -1], back[1:], atol=1e-3)
    moved = traversed(trained, rows[:1], steps=7)
    assert moved.shape == (4, 7, 1, 8, 8)


def test_tables_are_drawn_with_their_noise():
    random = np.random.default_rng(0)
    rows = np.stack([random.normal(size=200), random.integers(0, 3, 200)], 1)
    columns = (Column("height"), Column("town", "categorical", ("a", "b", "c")))
    data = Dataset.of(Raw(rows, kind="table", columns=columns), "table")
    made = train(data, ModelConfig(latents=1, widths=(32,)), TrainConfig(steps=600))
    drawn = generated(made, draws(made, 500, "prior", None, 0))
    assert set(drawn[:, 1].tolist()) == {0.0, 1.0, 2.0}
    assert float(drawn[:, 0].std()) == pytest.approx(rows[:, 0].std(), rel=0.25)


def test_a_grid_puts_tiles_side_by_side():
    rows = np.stack([np.zeros((1, 48, 48)), np.full((1, 48, 48), 4.0), np.full((1, 48, 48), 2.0)])
    made = grid(rows, 0, 4, columns=2)
    assert made.shape == (97, 97)
    assert (made[0, 0], made[0, -1], made[-1, 0], made[-1, -1]) == (0, 255, 128, 128)
    assert math.isclose(made[48, 0], 128)
    assert grid(np.zeros((4, 3, 50, 50)), 0, 1).shape == (101, 101, 3)
