"""Layers that are one linear map, and layers that bend."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.straight import Straight
from whyvae.watch.direct import watch_model


class Net(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        return self.decoder(mu + torch.randn_like(mu) * (logvar / 2).exp()), mu, logvar


def loss(model, x):
    out, mu, logvar = model(x)
    return (out - x).square().sum(1).mean() + 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()


def straight(encoder, decoder):
    torch.manual_seed(0)
    return Bench(watch_model(Net(encoder, decoder), torch.randn(256, 6).split(32), loss)).get(Straight)


@pytest.mark.parametrize(("decoder", "layers"), [
    ([nn.Linear(2, 9), nn.Linear(9, 6)], 2),
    ([nn.Linear(2, 9), nn.BatchNorm1d(9), nn.Dropout(0.2), nn.Linear(9, 5), nn.Linear(5, 6)], 3),
    ([nn.Linear(2, 9), nn.Linear(9, 6), nn.Sigmoid()], 2),  # what follows the last layer is the output's
    ([nn.Linear(2, 6)], 0), ([nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 6)], 0),
    ([nn.Linear(2, 9), nn.Linear(9, 9), nn.LeakyReLU(0.9), nn.Linear(9, 6)], 0), ([nn.Linear(2, 9), nn.LayerNorm(9), nn.Linear(9, 6)], 0),
])  # fmt: skip
def test_layers_of_the_decoder_without_an_activation_are_one_map(decoder, layers):
    found = straight(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), nn.Sequential(*decoder))
    assert (found.encoder, found.decoder) == (0, layers)


def test_layers_of_the_encoder():
    found = straight(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)), nn.Linear(2, 6))
    assert (found.encoder, found.decoder) == (2, 0)
