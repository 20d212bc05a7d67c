"""OBJ03 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import BALANCE, KL_AT, OBJECTIVE, found

from whyvae.audit.reductions import Reductions
from whyvae.probes.use import LatentUse
from whyvae.rules.objective.kl_underweight import KLUnderweight
from whyvae.verdict import Healthy, Skipped

LIGHT = {"s": 0.039, "fitting": 1.0, "prior_excess": 0.051}
VECTOR = LatentUse((10,), places=1, share=0.16, drawn=0)
MAP = LatentUse((4, 8, 8), places=64, share=1 / 48, drawn=0)


def check(objective=OBJECTIVE, use=VECTOR, **changes):
    return KLUnderweight.check(objective, replace(BALANCE, **changes), use)


@pytest.mark.parametrize(
    "changes", [{}, LIGHT | {"s": 0.04}, LIGHT | {"prior_excess": 0.05}, LIGHT | {"prior_excess": -0.1}]
)
def test_healthy_up_to_the_limits(changes):
    assert isinstance(check(**changes), Healthy)


def test_a_light_weight_with_bad_samples():
    finding = found(check(**LIGHT, gap=12.3), "weighs too little", "by 12 nats", "it decode to garbage", at=KL_AT)
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(0.051, 0.05), (0.039, 0.04)]
    assert "multiply the KL by about 26" in finding.remedies[0].how


def test_a_latent_map_for_another_model_is_by_design():
    found(check(use=MAP, **LIGHT), "by design", "[4, 8, 8]", "it is a fault", at=KL_AT, severity="info")


def test_draws_from_a_density_of_encodings_are_by_design():
    found(check(use=replace(VECTOR, from_encodings=True), **LIGHT), "by design", "fitted", at=KL_AT, severity="info")


def test_without_samples_only_a_weight_that_fits_is_acquitted():
    unknown = {"prior_excess": nan, "excess_unknown": "needs 32 different examples"}
    assert check(**LIGHT | unknown) == Skipped("needs 32 different examples")
    assert isinstance(check(**unknown), Healthy)


def test_a_learned_scale_fits_itself():
    """Not at a weight that is written beside it."""
    learned = replace(OBJECTIVE, learned_scale=True, reductions=Reductions(64.0, 64.0))
    assert isinstance(check(objective=learned, **LIGHT), Healthy)
    weighted = replace(learned, regulariser=replace(OBJECTIVE.regulariser, weight=0.01 / 64))
    found(check(objective=weighted, **LIGHT), "weighs too little", at=KL_AT)
