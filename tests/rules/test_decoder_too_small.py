"""CAP02 on literal numbers, on both sides of each limit."""

import math
from dataclasses import replace

import pytest

from whyvae.probes.straight import Straight
from whyvae.probes.units import HiddenUnits, Layer
from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rules.capacity.decoder_too_small import DecoderTooSmall
from whyvae.verdict import Finding, Healthy, Skipped, Where

LINE = Where("train.py", 42)
NARROW = Widths(256, Where("train.py", 33), 16, LINE, 8, 784)
RATE = 40.0


def wider(own, calibrated=None, continued=0.5, encoder=0.0, error=0.3):
    calibrated = own if calibrated is None else calibrated
    total = own + encoder
    return WiderBlocks(
        Gains(continued, encoder, own, total), Gains(continued, encoder, calibrated, total), error, RATE, 256, 200
    )  # fmt: skip


def check(*args, widths=NARROW, dead=0, part="decoder", straight=None, **kwargs):
    units = HiddenUnits((Layer(part, "relu", 256, dead, 1, None),), 1000, 4)
    return DecoderTooSmall.check(wider(*args, **kwargs), widths, lambda: units, lambda: straight)


def test_a_fifth_of_the_code_is_the_limit():
    assert isinstance(check(0.19 * RATE), Healthy)
    found = check(0.21 * RATE)
    assert isinstance(found, Finding)
    assert (found.severity, found.where, found.nats) == ("warning", LINE, pytest.approx(0.21 * RATE))
    assert "16 numbers" in found.summary


@pytest.mark.parametrize(("dead", "verdict"), [(250, Skipped), (179, Finding)])
def test_where_dead_units_are_missed_the_width_says_nothing(dead, verdict):
    assert isinstance(check(0.5 * RATE, dead=dead), verdict)


@pytest.mark.parametrize(("gain", "verdict"), [(0.3 * RATE, Skipped), (0.0, Finding)])
def test_dead_units_of_the_other_part_matter_if_they_are_missed(gain, verdict):
    assert isinstance(check(0.5 * RATE, dead=250, part="encoder", encoder=gain), verdict)


def test_half_of_the_code_is_an_error():
    assert check(0.49 * RATE).severity == "warning"
    assert check(0.51 * RATE).severity == "error"


def test_half_a_nat_at_the_best_noise_variance_is_the_limit():
    assert isinstance(check(20.0, calibrated=0.49), Healthy)
    assert isinstance(check(20.0, calibrated=0.51), Finding)


def test_where_training_on_gains_half_as_much_it_may_be_training_that_is_short():
    assert isinstance(check(20.0, continued=10.1), Healthy)
    assert isinstance(check(20.0, continued=9.9), Finding)


@pytest.mark.parametrize(("width", "verdict"), [(8, Finding), (9, Healthy)])
def test_a_layer_no_wider_than_the_code_lacks_width_however_short_training_was(width, verdict):
    """NARROW's code has 8 latents."""
    assert isinstance(check(20.0, continued=15.0, widths=replace(NARROW, decoder=width)), verdict)


def test_the_gain_of_the_encoder_is_not_the_decoders():
    assert isinstance(check(0.0, encoder=30.0), Healthy)


def test_a_fifth_of_the_joint_gain_is_the_limit():
    assert isinstance(check(10.0, encoder=41.0), Healthy)
    assert isinstance(check(10.0, encoder=39.0), Finding)


def test_confidence_follows_the_standard_error():
    assert check(8.0 + 0.3, error=0.3).confidence == pytest.approx(0.8413, abs=1e-3)
    assert check(20.0, error=0.3).confidence == 0.99


def test_no_hidden_layer_is_said_so():
    assert "no hidden layer" in check(20.0, widths=Widths(256, None, 0, None, 16)).summary


def test_layers_without_an_activation_are_said_to_be_one_map():
    finding = check(20.0, straight=Straight(encoder=0, decoder=3))
    assert "No activation stands between its 3 layers" in finding.summary
    assert [r.name for r in finding.remedies] == ["put an activation between the layers", "widen the decoder"]
    assert "No activation" not in check(20.0, straight=Straight(encoder=3, decoder=0)).summary


def test_an_empty_code_does_not_divide_by_zero():
    empty = WiderBlocks(Gains(0.0, 0.0, 0.0, 0.0), Gains(0.0, 0.0, 0.0, 0.0), 0.0, 0.0, 64, 200)
    assert isinstance(DecoderTooSmall.check(empty, NARROW, lambda: None, lambda: None), Healthy)
    assert math.isfinite(DecoderTooSmall.check(empty, NARROW, lambda: None, lambda: None).evidence[1].measured)


@pytest.mark.parametrize(("width", "worth", "verdict"), [
    (64, 400.0, Finding), (64, 440.0, Healthy), (64, math.nan, Finding), (10, 440.0, Finding),
])  # fmt: skip
def test_of_a_part_that_is_not_narrow_a_twentieth_of_what_outputs_are_worth_is_asked(width, worth, verdict):
    blocks = replace(wider(21.0), worth=worth)
    assert isinstance(
        DecoderTooSmall.check(blocks, replace(NARROW, decoder=width), lambda: None, lambda: None), verdict
    )
