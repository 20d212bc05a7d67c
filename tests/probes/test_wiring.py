"""Whether the reconstruction reaches the encoder, where the decoder itself passes nothing on any more."""

import pytest
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.wiring import Wiring
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
