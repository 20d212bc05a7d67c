import math
from types import SimpleNamespace

import pytest

from whyvae.probes.balance import Balance
from whyvae.probes.decoder_noise import DecoderNoise as Measured
from whyvae.rules.output.decoder_noise import DecoderNoise
from whyvae.verdict import Finding, Healthy, Skipped, Where

AT = Where("train.py", 25)
OBJECTIVE = SimpleNamespace(regulariser_at=AT, own_variance=False, bernoulli=False)


def check(
    ratio,
    *,
    stated=True,
    learned=False,
    threshold=0.7,
    kept=0.8,
    excess=0.01,
    moving=False,
    held=False,
    features=16,
    drawn=math.nan,
):
    """Verdict on a decoder that claims variance 1 and is off by `ratio`."""
    noise = Measured(stated, learned, False, ratio, 1.0, AT, moving, held, features, drawn, AT)
    balance = Balance(1.0, ratio, threshold, kept, 0, 14, excess, 10.0, 50.0)
    return DecoderNoise.check(noise, OBJECTIVE, balance)


@pytest.mark.parametrize(("ratio", "verdict"), [(0.24, Finding), (0.26, Healthy)])
def test_a_fixed_scale_too_wide(ratio, verdict):
    found = check(ratio)
    assert isinstance(found, verdict)
    assert not isinstance(found, Finding) or (found.severity, found.where) == ("error", AT)


def test_a_fixed_scale_too_wide_that_harms_nothing():
    assert isinstance(check(0.1, threshold=1.5), Healthy)


@pytest.mark.parametrize(("excess", "verdict"), [(0.06, Finding), (0.04, Healthy)])
def test_a_fixed_scale_too_narrow(excess, verdict):
    assert isinstance(check(30.0, excess=excess), verdict)


@pytest.mark.parametrize(("ratio", "verdict"), [(9.0, Skipped), (0.1, Skipped), (2.0, Healthy)])
def test_a_scale_on_its_way_is_not_judged(ratio, verdict):
    assert isinstance(check(ratio, learned=True, moving=True), verdict)


def test_a_scale_that_moved_until_something_held_it_is_judged():
    assert isinstance(check(0.1, learned=True, moving=True, held=True), Finding)


@pytest.mark.parametrize(("ratio", "verdict"), [(4.1, Finding), (3.9, Healthy), (0.24, Finding), (0.26, Healthy)])
def test_a_scale_that_could_learn_and_did_not(ratio, verdict):
    found = check(ratio, learned=True, threshold=1.5)
    assert isinstance(found, verdict)
    if isinstance(found, Finding):
        assert found.severity == "warning"
        assert "can be learned" in found.summary


@pytest.mark.parametrize(
    ("ratio", "features", "verdict"),
    [(0.59, 16, Healthy), (0.57, 16, Finding), (0.87, 64, Healthy), (0.6, 64, Finding), (1.58, 16, Healthy), (1.6, 16, Finding)],
)  # fmt: skip
def test_a_scale_that_is_held_is_judged_by_its_cost(ratio, features, verdict):
    """8 (r - 1 - log r) is 0.94 nats at r = 0.59, 1.06 at 0.57, 1.04 at 1.6."""
    found = check(ratio, learned=True, held=True, features=features, threshold=1.5)
    assert isinstance(found, verdict)
    if isinstance(found, Finding):
        assert (found.severity, [e.unit for e in found.evidence]) == ("warning", ["nats"])
        assert "a clamp or a detach holds it" in found.summary


def test_what_states_no_scale_is_another_rules():
    found = check(0.01, stated=False)
    assert isinstance(found, Skipped)
    assert found.reason.startswith("does not apply")


def test_no_number_no_verdict():
    assert isinstance(check(math.nan), Skipped)


@pytest.mark.parametrize(("drawn", "verdict"), [(0.24, Finding), (0.26, Healthy), (30.0, Healthy)])
def test_a_scale_that_only_samples_suffer_from(drawn, verdict):
    found = check(0.1, threshold=1.5, drawn=drawn)
    assert isinstance(found, verdict)
    assert not isinstance(found, Finding) or "times as much noise" in found.summary


def test_residuals_that_a_light_kl_makes_small_are_not_the_noises_fault():
    """Weighed rightly, reconstructions are off by the noise again."""
    light = Balance(1e-4, 0.01, 1.5, 0.8, 0, 14, 0.5, 10.0, 50.0)
    noise = Measured(False, False, False, 0.01, 1.0, AT, False, False, 16, 0.1, AT)
    assert light.too_light
    assert isinstance(DecoderNoise.check(noise, OBJECTIVE, light), Skipped)


@pytest.mark.parametrize(("drawn", "verdict"), [(0.24, Finding), (0.26, Skipped)])
def test_samples_may_get_a_scale_that_no_loss_states(drawn, verdict):
    assert isinstance(check(0.01, stated=False, drawn=drawn), verdict)
