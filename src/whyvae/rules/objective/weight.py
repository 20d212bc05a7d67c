"""What the rules on the KL weight share: the two harms, as evidence."""

from __future__ import annotations

from whyvae.probes.balance import Balance
from whyvae.probes.objective import Objective
from whyvae.verdict import Evidence, Limit


def harm_heavy(objective: Objective, balance: Balance) -> Evidence:
    """Collapse is the optimum; or reconstructions lose more than they keep."""
    what = (
        "KL weight per nat of likelihood (effective beta)"
        if objective.bernoulli
        else "noise variance the loss implies"
    )
    if balance.collapse_predicted:
        reason = (
            "largest eigenvalue of the data's covariance in units of p(1-p): above it the collapsed model is the optimum"
            if objective.bernoulli
            else "largest eigenvalue of the data covariance: above it the collapsed model is the optimum"
        )
        return Evidence(what, balance.s, Limit(">", balance.threshold, reason))
    reason = (
        "half: noise-free samples lack as much variance as reconstructions lose, so below it they lose more than they keep "
        f"(the weight keeps {balance.useful_now} directions of the data, a fitting one {balance.useful_fitting})"
    )
    return Evidence(
        "share of the data's variance that reconstructions keep",
        balance.kept,
        Limit("<", 0.5, reason),
    )


def harm_light(balance: Balance) -> Evidence:
    reason = "1 nat: a unit spread like N(0, 2.4^2), or shrunk to 0.3, instead of N(0, 1); a fitting weight leaves 0.1 to 0.4"
    return Evidence(
        "nats by which the encodings miss the prior, per latent unit",
        balance.gap_per_unit,
        Limit(">", 1.0, reason),
    )
