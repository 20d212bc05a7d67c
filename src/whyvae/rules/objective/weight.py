"""What the rules on the KL weight share: the two harms, as evidence."""

from __future__ import annotations

from whyvae.probes.balance import FAR, FOUR, HALF, Balance
from whyvae.probes.objective import Objective
from whyvae.verdict import Evidence, Limit


def harm_heavy(objective: Objective, balance: Balance) -> Evidence:
    """Collapse is the optimum; or reconstructions lose more than they keep."""
    what = (
        "KL weight per nat of likelihood (effective beta)"
        if objective.own_variance
        else "noise variance the loss implies"
    )
    if balance.collapse_predicted:
        reason = (
            "largest eigenvalue of the data's covariance in units of the likelihood's own variance: above it the collapsed model is the optimum"
            if objective.own_variance
            else "largest eigenvalue of the data covariance: above it the collapsed model is the optimum"
        )
        return Evidence(what, balance.s, Limit(">", balance.threshold, reason))
    if balance.blurred and balance.kept >= HALF:
        reason = (
            "half: both are scored on the same examples, and a linear model is the least that as many latents can do; "
            f"asked beside a weight more than {FOUR:g} times too heavy only"
        )
        what = "quality of reconstructions, as a share of what a linear model with as many latents reaches"
        return Evidence(what, balance.realness, Limit("<", HALF, reason))
    reason = (
        "half: noise-free samples lack as much variance as reconstructions lose, so below it they lose more than they keep "
        f"(the weight leaves {balance.useful_now} latents something to say, a fitting one {balance.useful_fitting})"
    )
    return Evidence(
        "share of the data's variance that reconstructions keep",
        balance.kept,
        Limit("<", HALF, reason),
    )


def harm_light(balance: Balance) -> Evidence:
    reason = (
        "a twentieth of the data's variance, 5 times what 500 real examples are apart from 500 others; "
        "it counts only beside a weight far below what fits"
    )
    what = "squared distance from the data that drawing from N(0, I), not from where encodings lie, adds to samples"
    return Evidence(what, balance.prior_excess, Limit(">", FAR, reason))
