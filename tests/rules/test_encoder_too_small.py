"""CAP01 on literal measurements; what it shares with CAP02 is tested there too."""

import pytest

from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rules.capacity.encoder_too_small import EncoderTooSmall
from whyvae.verdict import Finding, Healthy, Where

AT, RATE = Where("train.py", 33), 40.0
WIDTHS = Widths(16, AT, 256, Where("train.py", 42), 8, 784)


def check(own, calibrated=None, continued=0.5, decoder=0.0, widths=WIDTHS):
    total = own + decoder
    gains = Gains(continued, own, decoder, total)
    best = Gains(continued, own if calibrated is None else calibrated, decoder, total)
    return EncoderTooSmall.check(WiderBlocks(gains, best, 0.3, RATE, 256, 200), widths, lambda: None, lambda: None)


@pytest.mark.parametrize(
    ("ill", "healthy"),
    [
        ({"own": 0.21 * RATE}, {"own": 0.19 * RATE}),
        ({"own": 20.0, "calibrated": 0.51}, {"own": 20.0, "calibrated": 0.49}),
        ({"own": 20.0, "continued": 9.9}, {"own": 20.0, "continued": 10.1}),
        ({"own": 10.0, "decoder": 39.0}, {"own": 10.0, "decoder": 41.0}),
    ],
)
def test_all_four_limits_must_be_passed(ill, healthy):
    assert isinstance(check(**ill), Finding)
    assert isinstance(check(**healthy), Healthy)


def test_the_gain_of_the_decoder_is_not_the_encoders():
    assert isinstance(check(0.0, decoder=30.0), Healthy)


def test_says_what_a_wider_encoder_gains_and_how_narrow_it_is():
    finding = check(25.0)
    for words in ("The encoder is too small", "25 nats", "carries 40", "16 numbers of an example"):
        assert words in finding.summary
    assert (finding.where, finding.severity, finding.nats, finding.confidence) == (AT, "error", 25.0, 0.99)
    assert "hidden units" in finding.remedies[0].how


@pytest.mark.parametrize(("width", "latents", "features", "roomy"), [
    (100, 4, 50, True), (24, 4, 50, False), (25, 4, 50, True), (25, 12, 50, True), (0, 1, 1, False), (300, 8, 784, False),
])  # fmt: skip
def test_a_part_that_is_wide_as_it_is_must_gain_half_of_the_code(width, latents, features, roomy):
    widths = Widths(width, AT, 256, AT, latents, features)
    assert isinstance(check(0.49 * RATE, widths=widths), Healthy if roomy else Finding)
    assert isinstance(check(0.51 * RATE, widths=widths), Finding)


@pytest.mark.parametrize(("width", "latents", "active", "tight"), [
    (7, 4, 0, True), (8, 4, 0, False), (7, 16, 3, False), (5, 16, 3, True), (0, 4, 4, False),
])  # fmt: skip
def test_a_part_narrower_than_twice_the_used_latents_must_gain_a_fifteenth(width, latents, active, tight):
    widths = Widths(width, AT, 256, AT, latents, 784, active)
    assert isinstance(check(0.07 * RATE, widths=widths), Finding if tight else Healthy)
    assert isinstance(check(0.06 * RATE, widths=widths), Healthy)
