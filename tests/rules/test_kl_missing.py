"""OBJ04 on literal measurements."""

from dataclasses import replace

from literal import LIKELIHOOD_AT, OBJECTIVE, found

from whyvae.audit.regulariser import Regulariser
from whyvae.rules.objective.kl_missing import KLMissing
from whyvae.verdict import Healthy, Skipped

check = KLMissing.check
NONE = replace(OBJECTIVE, regulariser=Regulariser("none", 0.0))


def test_no_gradient_at_the_heads():
    finding = found(check(NONE), "No KL reaches the posterior", "plain autoencoder", at=LIKELIHOOD_AT)
    assert "no gradient to mu or sigma" in str(finding.evidence[0])


def test_any_regulariser_is_one():
    for form in ("exact", "free bits", "learned prior", "wrong", "unknown"):
        assert isinstance(check(replace(OBJECTIVE, regulariser=Regulariser(form, 1.0))), Healthy)


def test_nothing_is_said_of_what_cannot_be_audited():
    assert check(replace(NONE, not_auditable="the posterior is not a diagonal Gaussian")) == Skipped(
        "the posterior is not a diagonal Gaussian"
    )
