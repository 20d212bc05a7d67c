"""TRN05 on literal measurements."""

import pytest
from literal import found

from whyvae.probes.units import HiddenUnits, Layer
from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.rules.training.dead_units import DeadUnits
from whyvae.verdict import Finding, Healthy, Where

AT = Where("train.py", 21)


def check(dead, units=100, latents=4, part="decoder", positions=1, wider=None):
    layers = (
        Layer("encoder", "relu", 100, 10, 1, Where("train.py", 20)),
        Layer(part, "relu", units, dead, positions, AT),
    )
    return DeadUnits.check(HiddenUnits(layers, examples=1000, latents=latents), lambda: wider)


def gains(encoder=0.0, decoder=0.0):
    """Of a code of 10 nats."""
    gained = Gains(0.1, encoder, decoder, encoder + decoder)
    return WiderBlocks(gained, gained, 0.3, 10.0, 256, 200)


@pytest.mark.parametrize(("dead", "ill"), [(0, False), (70, False), (90, False), (91, True)])
def test_a_layer_is_looked_at_from_a_share_on(dead, ill):
    assert (not isinstance(check(dead, wider=gains(decoder=5.0)), Healthy)) is ill


@pytest.mark.parametrize(("dead", "gain", "ill"), [
    (98, 0.0, False), (98, 0.6, False), (98, 0.7, True), (92, 1.9, False), (92, 2.1, True),
])  # fmt: skip
def test_few_living_units_are_accused_if_more_would_help(dead, gain, ill):
    """A fifth of the code is what a part must gain; a fifteenth where fewer units live than twice the four latents."""
    assert (not isinstance(check(dead, wider=gains(decoder=gain)), Healthy)) is ill
    assert isinstance(check(98, wider=gains(encoder=gain)), Healthy)


def test_without_trials_a_layer_is_accused_if_the_code_does_not_fit_through():
    assert isinstance(check(95, latents=4), Healthy)
    assert isinstance(check(97, latents=4), Finding)


@pytest.mark.parametrize(
    ("dead", "units", "latents", "ill"),
    [
        (80, 100, 20, False),  # as many left as there are latents
        (81, 100, 20, True),
        (70, 100, 64, False),  # no more than in healthy trainings
        (71, 100, 64, True),
        (75, 100, 100, False),  # no more units than latents: too narrow with all of them alive
        (91, 100, 100, True),
        (0, 16, 64, False),
    ],
)
def test_limit_of_the_units_that_are_left(dead, units, latents, ill):
    assert (not isinstance(check(dead, units, latents), Healthy)) is ill


@pytest.mark.parametrize(("positions", "ill"), [(1, True), (2, False)])
def test_a_channel_is_as_many_numbers_as_it_has_positions(positions, ill):
    """8 of 32 channels left, 16 latents."""
    assert (not isinstance(check(24, 32, 16, positions=positions), Healthy)) is ill


def test_says_how_many_where_and_how_sure():
    finding = found(
        check(97), "97 of 100 units after `relu` in the decoder", "on all 1000 examples", "less than 0.3%", at=AT,
        severity="warning",
    )  # fmt: skip
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(0.97, 0.7), (3, 4)]


def test_a_layer_without_a_survivor_is_an_error():
    finding = found(check(100, part="encoder"), "100 of 100 units", "in the encoder", at=AT)
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(1.0, 0.7), (0, 4)]
