"""OBJ02 on literal measurements."""

from dataclasses import replace

import pytest
from literal import BALANCE, KL_AT, LIKELIHOOD_AT, OBJECTIVE, found

from whyvae.audit.reductions import Reductions
from whyvae.rules.objective.reduction_mismatch import ReductionMismatch
from whyvae.verdict import Healthy


def check(reconstruction=1.0, regulariser=1.0, power=0, **changes):
    """`power`: s grows with the batch size to this power."""
    s = changes.get("s", BALANCE.s)
    objective = replace(
        OBJECTIVE, reductions=Reductions(reconstruction, regulariser), noise_variance=s,
        noise_variance_half_batch=s * 0.5**power,
    )  # fmt: skip
    return ReductionMismatch.check(objective, replace(BALANCE, **changes))


def test_reduced_alike_is_healthy():
    assert isinstance(check(), Healthy)


def test_pixels_averaged_latents_summed():
    finding = found(
        check(784.0, s=392.0, nats_lost=31.0), "reconstruction is averaged where the KL is summed", "784 times more",
        "noise variance of 392", at=LIKELIHOOD_AT,
    )  # fmt: skip
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(784.0, 1.5), (392.0, 5.3)]
    assert finding.nats == 31.0


@pytest.mark.parametrize(("count", "ill"), [(1.5, False), (1.51, True)])
def test_limit_of_the_counts(count, ill):
    """Collapse is the optimum, and the explicit factor accounts for less than the reductions."""
    verdict = check(count, s=0.5 * count, threshold=0.1, fitting=0.01)
    assert (not isinstance(verdict, Healthy)) is ill


@pytest.mark.parametrize(("count", "ill"), [(4.0, False), (4.01, True)])
def test_without_harm_reducing_alike_must_bring_the_weight_nearer(count, ill):
    verdict = check(count, s=0.04 * count, useful_now=6)
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "4.01 times more", at=LIKELIHOOD_AT, severity="warning")


def test_harm_from_an_explicit_factor_is_not_the_reductions_fault():
    """8 from the means, 1000 written down."""
    assert isinstance(check(8.0, s=4000.0, fitting=8000.0), Healthy)


def test_latents_averaged_pixels_summed():
    verdict = check(1.0, 64.0, s=0.5 / 64, fitting=0.5, prior_excess=12.0)
    finding = found(verdict, "KL is averaged where the reconstruction is summed", "64 times less", at=KL_AT)
    assert [e.measured for e in finding.evidence] == [64.0, 12.0]


def test_a_batch_alone_is_another_diagnosis():
    assert isinstance(check(64.0, power=1, s=32.0), Healthy)
    assert isinstance(check(1.0, 64.0, power=-1, s=0.5 / 64, fitting=0.5, prior_excess=12.0), Healthy)


def test_averaged_over_everything_against_summed_over_everything():
    finding = found(check(784.0 * 64, power=1, s=25088.0), "5.018e+04 times more", "64 of it for the examples in a batch",
                    at=LIKELIHOOD_AT)  # fmt: skip
    assert finding.evidence[0].measured == 784.0


def test_the_error_of_a_model_that_the_kl_has_blurred_is_not_what_fits():
    """s = 0.5 is the error it made itself; a linear model leaves 0.01, and alike reduced terms would say 0.0125."""
    blurred = {"s": 0.5, "fitting": 0.5, "useful_now": 6}
    assert isinstance(check(40.0, **blurred), Healthy)
    found(check(40.0, **blurred, reachable=0.01), "40 times more", at=LIKELIHOOD_AT, severity="warning")


def test_an_error_far_above_the_weight_is_not_the_work_of_the_weight():
    """s = 0.025 raises no number's error by more than that: a network that leaves 0.5 is not trained, or too small."""
    short = {"s": 0.025, "useful_now": 6, "reachable": 0.001}
    assert isinstance(check(5.0, **short, fitting=0.5), Healthy)
    found(check(5.0, **short, fitting=0.05), "5 times more", at=LIKELIHOOD_AT, severity="warning")
