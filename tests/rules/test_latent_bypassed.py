import math
from dataclasses import replace

from whyvae.probes.bypass import Bypass
from whyvae.rules.posterior.latent_bypassed import LatentBypassed
from whyvae.verdict import Finding, Healthy, Where

AT = Where("train.py", 22)


def bypass(side=2.0, latent=0.0, gain=0.0, *, own=True, heavy=False):
    return Bypass(True, own, side, latent, gain, heavy, AT)


def test_a_skip_that_leaves_z_a_hundredth():
    verdict = LatentBypassed.check(bypass(latent=0.02))
    assert isinstance(verdict, Finding)
    assert (verdict.severity, verdict.where) == ("error", AT)


def test_a_part_given_on_purpose_and_z_needed_for_the_rest():
    assert isinstance(LatentBypassed.check(bypass(side=1.2, latent=0.45, gain=50.0)), Healthy)


def test_a_part_that_new_samples_are_decoded_without():
    shown = replace(bypass(side=1.2, latent=0.45, gain=50.0), alone=True)
    verdict = LatentBypassed.check(shown)
    assert isinstance(verdict, Finding)
    assert "decodes new samples without it" in verdict.summary
    assert isinstance(LatentBypassed.check(replace(shown, side=0.49)), Healthy)
    assert isinstance(LatentBypassed.check(replace(shown, own=False)), Healthy)  # labels, the past


def test_features_of_the_encoder_that_new_samples_have_not():
    shown = replace(bypass(side=1.2, latent=0.45, gain=50.0), features=True)
    verdict = LatentBypassed.check(shown)
    assert isinstance(verdict, Finding)
    assert "features" in verdict.summary
    assert isinstance(LatentBypassed.check(replace(shown, side=0.49)), Healthy)
    assert isinstance(LatentBypassed.check(replace(shown, own=False)), Healthy)


def test_a_twentieth_is_the_limit():
    assert isinstance(LatentBypassed.check(bypass(latent=0.099)), Finding)
    assert isinstance(LatentBypassed.check(bypass(latent=0.101)), Healthy)


def test_a_side_path_that_hardly_matters():
    assert isinstance(LatentBypassed.check(bypass(side=0.49)), Healthy)


def test_the_past_alone_is_enough():
    verdict = LatentBypassed.check(bypass(own=False, side=0.55, latent=0.009, gain=0.37))
    assert isinstance(verdict, Finding)
    assert verdict.severity == "warning"


def test_the_past_beside_a_latent_that_saves_nats():
    assert isinstance(LatentBypassed.check(bypass(own=False, side=9.0, latent=0.01, gain=1.1)), Healthy)


def test_a_heavy_kl_is_not_blamed_on_the_past():
    assert isinstance(LatentBypassed.check(bypass(own=False, gain=0.0, heavy=True)), Healthy)


def test_nothing_beside_z():
    assert isinstance(LatentBypassed.check(Bypass(False, False, 0.0, math.nan, math.nan, False, None)), Healthy)
