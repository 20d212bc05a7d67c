"""WIR02 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import BACKWARD_AT, WIRING, found

from whyvae.rules.wiring.gradients_not_cleared import GradientsNotCleared
from whyvae.verdict import Healthy


def check(stale, steps=5):
    return GradientsNotCleared.check(replace(WIRING, stale=stale, stale_steps=steps))


@pytest.mark.parametrize(("stale", "ill"), [(0.0, False), (1e-3, False), (1.1e-3, True), (0.9, True)])
def test_limit(stale, ill):
    verdict = check(stale)
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "sum of all gradients so far", at=BACKWARD_AT)
        assert verdict.evidence[0].measured == stale


def test_nothing_to_be_left_over():
    assert check(nan, steps=0).reason.startswith("does not apply")
