"""WIR05 on literal measurements."""

from dataclasses import replace

from literal import WIRING, Z_AT, found

from whyvae.rules.wiring.latent_detached import LatentDetached
from whyvae.verdict import Healthy

check = LatentDetached.check
CUT = replace(WIRING, reconstruction_reaches_encoder=False)


def test_a_gradient_that_stops_at_z():
    finding = found(check(CUT), "z is cut off from the encoder", at=Z_AT)
    assert "mu and sigma get none of it" in str(finding.evidence[0])


def test_a_gradient_that_reaches_the_heads_is_healthy():
    assert isinstance(check(WIRING), Healthy)


def test_an_output_without_latent_has_none_to_lose():
    assert check(replace(CUT, output_depends_on_latent=0.0)).reason.startswith("does not apply")
