"""Whether the reconstruction reaches the encoder, where the decoder itself passes nothing on any more."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.wiring import Wiring, at_start
from whyvae.testing import Patient, reparametrise


def drowned(width):
    layer = nn.LayerNorm(width)
    nn.init.constant_(layer.bias, -60)
    return layer


@pytest.mark.parametrize(
    ("sample", "reaches"),
    [(reparametrise, True), (lambda mu, logvar: reparametrise(mu, logvar).detach(), False)],
    ids=["attached", "detached"],
)
def test_a_dead_decoder_hides_no_detached_latent(sample, reaches):
    patient = Patient(sample=sample, activation=nn.ReLU, norm=drowned, steps=20)
    wiring = Bench(patient.train()).get(Wiring)
    assert wiring.output_depends_on_latent > 0
    assert wiring.reconstruction_reaches_encoder is reaches


def test_a_gradient_that_is_no_number_has_come_through():
    patient = Patient(output=lambda y: (y * 0).log(), loss=lambda y, x, mu, logvar: (y - x).sum() + mu.sum(), steps=3)
    assert Bench(patient.train()).get(Wiring).reconstruction_reaches_encoder


def frozen(model):
    model.decoder.requires_grad_(False)
    return list(model.parameters())


def pretrained(model):
    with torch.no_grad():
        model.decoder[0].weight.mul_(1.3)
    return frozen(model)


def not_given(model):
    frozen(model)
    return [p for p in model.parameters() if p.requires_grad]


def a_layer(model):
    model.decoder[0].requires_grad_(False)
    return list(model.parameters())


@pytest.mark.parametrize(("optimised", "count"), [(frozen, 4), (pretrained, 0), (not_given, 0), (a_layer, 0)])
def test_a_part_that_is_frozen_as_it_was_drawn(optimised, count):
    found = Wiring.measure(Patient(optimised=optimised, steps=30).train())
    assert len(found.frozen) == count
    assert (found.frozen_share > 0.2) is (count > 0)


@pytest.mark.parametrize("seed", range(8))
def test_new_layers_are_as_they_were_drawn_and_others_are_not(seed):
    torch.manual_seed(seed)
    for layer in (nn.Linear(7, 64), nn.Conv2d(3, 16, 3), nn.ConvTranspose2d(16, 8, 4)):
        assert at_start(layer.weight)
        assert not at_start(layer.weight + 1e-2 * torch.randn_like(layer.weight))
        nn.init.xavier_normal_(layer.weight)
        assert not at_start(layer.weight)
