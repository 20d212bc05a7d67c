"""Dead units, counted on models whose dead units are known, and against slopes taken by autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.units import FLAT, SLOPES, HiddenUnits
from whyvae.watch.direct import BATCH, watch_model

FEATURES, LATENTS = 6, 3


@pytest.fixture(autouse=True)
def _tracebacks(monkeypatch):
    monkeypatch.setenv("WHYVAE_DEBUG", "1")


class Model(nn.Module):
    """Activations on the heads and on the output are there not to be counted."""

    def __init__(self, encoder, decoder):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        mu, raw = self.encoder(x).chunk(2, 1)
        sigma = F.softplus(raw)
        y = torch.sigmoid(self.decoder(mu + sigma * torch.randn_like(mu)))
        kl = 0.5 * (mu**2 + sigma**2 - 1).sum() - sigma.log().sum()
        return (F.binary_cross_entropy(y, x.reshape(y.shape), reduction="sum") + kl) / len(x)


def linear(activation, width=8):
    return Model(
        nn.Sequential(nn.Linear(FEATURES, width), activation(), nn.Linear(width, 2 * LATENTS)),
        nn.Sequential(nn.Linear(LATENTS, width), activation(), nn.Linear(width, FEATURES)),
    )


def kill(layer, count, bias=-1e3):
    with torch.no_grad():
        layer.bias[:count] = bias


def rows(n=2 * BATCH, shape=(FEATURES,)):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def measured(model, x):
    return Bench(watch_model(model, x)).get(HiddenUnits)


def counts(found):
    return [(layer.part, layer.activation, layer.units, layer.dead) for layer in found.layers]


@pytest.mark.parametrize(
    ("activation", "name", "bias"),
    [
        (nn.ReLU, "relu", -1e3),
        (lambda: nn.ReLU(inplace=True), "relu", -1e3),
        (nn.Tanh, "tanh", 20.0),
        (nn.Sigmoid, "sigmoid", -20.0),
        (nn.GELU, "gelu", -20.0),
        (nn.SiLU, "silu", -50.0),
        (nn.ELU, "elu", -20.0),
        (nn.Softplus, "softplus", -20.0),
        (nn.ReLU6, "hardtanh", 1e3),
        (nn.Hardtanh, "hardtanh", -1e3),
    ],
)
def test_drowned_units_are_counted_by_layer(activation, name, bias):
    model = linear(activation)
    for layer, dead in ((model.encoder[0], 3), (model.decoder[0], 5)):
        kill(layer, 8, 0.5)  # alive
        kill(layer, dead, bias)
    found = measured(model, rows())
    assert counts(found) == [("encoder", name, 8, 3), ("decoder", name, 8, 5)]
    assert (found.examples, found.latents, found.bound) == (2 * BATCH, LATENTS, 3 / (2 * BATCH))


def test_a_unit_that_fires_once_is_alive():
    model, x = linear(nn.ReLU), rows()
    with torch.no_grad():
        given = x @ model.encoder[0].weight[0]
        model.encoder[0].bias[0] = -(given.sort().values[-2:].mean())  # above 0 for one example
        model.encoder[0].bias[1:] = 10.0
    assert counts(measured(model, x))[0] == ("encoder", "relu", 8, 0)
    kill(model.encoder[0], 1, -float(given.max()) - 1e-3)
    assert counts(measured(model, x))[0] == ("encoder", "relu", 8, 1)


def test_channels_of_convolutions_over_all_positions():
    encoder = nn.Sequential(
        nn.Conv2d(1, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2 * LATENTS)
    )
    decoder = nn.Sequential(
        nn.Linear(LATENTS, 12),
        nn.Unflatten(1, (3, 2, 2)),
        nn.ConvTranspose2d(3, 7, 2, 2),
        nn.ReLU(),
        nn.Conv2d(7, 1, 1),
    )
    model = Model(encoder, decoder)
    kill(encoder[1], 2)
    kill(decoder[2], 4)
    found = measured(model, rows(shape=(1, 4, 4)))
    assert counts(found) == [("encoder", "relu", 5, 2), ("decoder", "relu", 7, 4)]
    assert [(layer.positions, layer.alive) for layer in found.layers] == [(4, 12), (16, 48)]
    assert all(layer.at.file == __file__ for layer in found.layers)


def test_leaky_activations_cannot_die():
    with pytest.raises(CannotMeasure, match="does not apply"):
        measured(linear(lambda: nn.LeakyReLU(0.1)), rows())


def test_few_examples_tell_nothing():
    with pytest.raises(CannotMeasure, match="needs 30 examples"):
        measured(linear(nn.ReLU), rows(29))


def test_clamps_are_activations_at_0_only():
    """`clamp(min=0)` by another name is a ReLU; a guard against overflow is none."""

    class Clamp(nn.Module):
        def forward(self, a):
            return a.clamp(-10, 10).clamp(min=0)

    model = linear(Clamp)
    kill(model.encoder[0], 8, 0.5)
    kill(model.encoder[0], 3)
    assert counts(measured(model, rows()))[0] == ("encoder", "clamp", 8, 3)
    assert len(measured(model, rows()).layers) == 2


@pytest.mark.parametrize("name", SLOPES)
def test_flat_is_what_autograd_calls_flat(name):
    """Between -30 and 30, but for the narrow places where a slope passes the limit."""
    a = torch.linspace(-30, 30, 4000, dtype=torch.float64, requires_grad=True)
    y = (getattr(F, name, None) or getattr(torch, name))(a)
    (slope,) = torch.autograd.grad(y.sum(), a)
    ours = SLOPES[name](y.detach())
    clear = (slope.abs() < FLAT / 30) | (slope.abs() > 30 * FLAT)
    differ = ((ours > FLAT) != (slope.abs() > FLAT)) & clear
    assert a[differ].tolist() == []
