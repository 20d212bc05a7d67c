"""POS02 on literal measurements."""

from dataclasses import replace
from math import nan

from literal import NOISE, Z_AT, found

from whyvae.rules.posterior.latent_deterministic import LatentDeterministic
from whyvae.verdict import Healthy

check = LatentDeterministic.check


def test_no_draw():
    finding = found(check(replace(NOISE, drawn_by="", count=0, kolmogorov=nan)), "No noise is sampled", at=Z_AT)
    assert "nothing random enters z" in str(finding.evidence[0])


def test_a_draw_of_any_kind_is_noise():
    verdict = check(replace(NOISE, drawn_by="code outside torch"))
    assert isinstance(verdict, Healthy)
    assert "`code outside torch`" in str(verdict.evidence[0])
