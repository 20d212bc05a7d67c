"""Errors of the residual that have no name: read as the squared error that pulls as much on average."""

import pytest
import torch
from steps import VAE, B, audit, kl_sum

from whyvae.probe import CannotMeasure
from whyvae.probes.course import Course
from whyvae.probes.court import Court
from whyvae.probes.reconstruction import reconstructions
from whyvae.probes.target import TargetMatch
from whyvae.probes.wider import WiderBlocks

ERRORS = {
    "student": lambda r: torch.log1p(r**2 / 3).sum(),
    "charbonnier": lambda r: (r**2 + 0.01).sqrt().sum(),
    "log-cosh of a tenth": lambda r: torch.log(torch.cosh(r / 0.1)).sum() / B,
    "fourth power": lambda r: (r**4).mean(),
}


def audited(error):
    torch.manual_seed(0)
    model, x = VAE(), torch.randn(B, 12)

    def step():
        y, mu, lv = model(x)
        return error(y - x) + 0.5 * kl_sum(mu, lv)

    return audit(step)


@pytest.mark.parametrize("name", ERRORS)
def test_the_scale_is_the_slope_of_the_loss_when_all_residuals_grow(name):
    found = audited(ERRORS[name])
    assert found.likelihood.family == "error"
    r = found.likelihood.output.double() - found.likelihood.target.double()
    h = 1e-6
    slope = (ERRORS[name](r * (1 + h)) - ERRORS[name](r * (1 - h))) / (2 * h)
    assert found.s == pytest.approx(0.5 * float(r.square().sum() / slope), rel=1e-6)


def test_pulls_that_differ_at_the_same_residual_are_no_error_of_the_residual():
    torch.manual_seed(1)
    weights = torch.rand(B, 12) + 0.1
    assert audited(lambda r: (weights * (r**2 + 0.01).sqrt()).sum()).likelihood.family == "density"


def test_numbers_that_a_mask_leaves_out_are_no_other_target():
    torch.manual_seed(2)
    model, x = VAE(), torch.randn(B, 12)
    x[torch.rand(B, 12) < 0.3] = -9.0  # missing

    def step():
        known = x != -9
        y, mu, lv = model(torch.where(known, x, 0.0))
        return ((y - x) ** 2 * known).sum() + kl_sum(mu, lv)

    found = audit(step)
    assert found.measure(TargetMatch).exact
    outputs, targets = reconstructions(found.subject())
    known = x != -9
    assert torch.equal(outputs[~known], targets[~known])
    assert torch.allclose(targets[known], x[known].double())
    subject = found.subject()
    court = Court(Course(subject), found.objective(), [{}], 1)
    assert float(court._start[1]) < 40  # squared error of an example, to which one number left out would add 81
    with pytest.raises(CannotMeasure, match="leaves some numbers"):
        found.measure(WiderBlocks)
