"""WIR01 on literal measurements."""

from dataclasses import replace

import pytest
from literal import STEP_AT, WIRING, found

from whyvae.rules.wiring.parameters_not_optimized import ParametersNotOptimized
from whyvae.verdict import Healthy


def check(**changes):
    return ParametersNotOptimized.check(replace(WIRING, **changes))


def test_any_parameter_that_nobody_steps():
    verdict = check(unstepped=("decoder.0.weight",), unstepped_share=1e-6)
    finding = found(verdict, "1 parameters are trained by nobody: decoder.0.weight", at=STEP_AT)
    assert [e.measured for e in finding.evidence] == [1e-6]


def test_a_long_list_is_cut():
    found(check(unstepped=tuple("abcde"), unstepped_share=0.5), "5 parameters", "a, b, c, d, ... get", at=STEP_AT)
    found(check(unstepped=tuple("abcd"), unstepped_share=0.5), "4 parameters", "a, b, c, d get", at=STEP_AT)


@pytest.mark.parametrize(("share", "ill"), [(0.01, False), (0.011, True)])
def test_limit_of_parameters_without_a_gradient(share, ill):
    verdict = check(without_gradient=("scale",), without_gradient_share=share)
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "1 parameters get no gradient from the loss: scale", at=STEP_AT)


def test_all_stepped_is_healthy():
    assert isinstance(check(), Healthy)


def test_parameters_stepped_by_hand():
    assert check(optimizers=()).reason.startswith("does not apply")
    found(check(optimizers=(), unstepped=("w",), unstepped_share=0.1), "trained by nobody: w", at=STEP_AT)
