"""Is the KL weight what the data can pay for? s against the data's spectrum, the residual and the encodings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from whyvae.audit.information import NEAR
from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.data import Spectrum
from whyvae.probes.generation import AgainstLinear, PriorExcess
from whyvae.probes.latents import LatentUsage
from whyvae.probes.objective import Objective, audited_likelihood, standardised
from whyvae.probes.reconstruction import Reconstruction

FAR = 0.05  # of the data's variance: 5 times what 500 examples are apart from 500 others; convicts with LICENCE only

FOUR = 4.0  # a scale within this factor of the residual's variance fits, as OUT04 counts
HALF = 0.5  # below it reconstructions lose more than they keep: of the variance, or of what a linear model keeps of the realness
LICENCE = 0.04  # capacity faults inflate the residual too: they alone leave s / MSE at 0.07 to 0.5


@dataclass(frozen=True)
class Balance(Probe):
    """`s` and what it does. Of squared errors s is a variance, compared with the residual MSE; of BCE it is the
    effective beta, compared with 1.
    """

    s: float
    fitting: float  # the s that fits this model: MSE (Gaussian), 1 (Bernoulli)
    threshold: float  # above it the collapsed model is the optimum
    kept: float  # share of the data's variance that reconstructions keep
    # of the latents, how many the data has directions worth one for: at s (its lower end, where it is rough), at the fitting s
    useful_now: int
    useful_fitting: int
    prior_excess: float  # squared distance from the data that draws from the prior add, in the data's variances
    rate: float
    nats_lost: float  # by a wrong s, networks frozen: D/2 (1/rho - 1 + log rho), rho = s / MSE
    excess_unknown: str = ""  # why prior_excess is NaN
    hole: float = math.nan  # then the share of N(0, I) where no encoding lies
    gap: float = math.nan  # nats from the encodings' mean and covariance to N(0, I)
    reachable: float = math.nan  # `fitting`, or the residual of as many principal directions where that is smaller
    # of the quality that a linear model's reconstructions have, the share that these have; NaN where it is not asked
    realness: float = math.nan
    rough: bool = False  # s is known up to the factor NEAR, and so is the threshold: their quotient is exact

    @classmethod
    def measure(
        cls,
        subject: Any,
        objective: Objective,
        spectrum: Spectrum,
        reconstruction: Reconstruction,
        usage: LatentUsage,
        excess: PriorExcess,
        against: OnDemand[AgainstLinear],
    ) -> Self:
        if not objective.weight_known:
            raise CannotMeasure(
                objective.not_auditable or f"the weight of the KL is not known ({objective.likelihood_name})"
            )
        bernoulli = objective.own_variance
        if not (objective.gaussian or bernoulli):
            raise CannotMeasure(f"no threshold is known for this likelihood ({objective.likelihood_name})")
        s = _variance(subject, objective, reconstruction)
        if bernoulli and math.isnan(spectrum.threshold_bernoulli):
            raise CannotMeasure(
                "does not apply: the weight at which this likelihood collapses could not be computed"
                if objective.family == "density"
                else "the likelihood is not defined on this data: it has no threshold"
            )
        fitting = 1.0 if bernoulli else reconstruction.mse
        rho = s / max(fitting, 1e-300)
        lost = 0.0 if bernoulli else reconstruction.features / 2 * (1 / rho - 1 + math.log(rho))
        rough = objective.family == "density"
        linear = (spectrum.total - sum(spectrum.eigenvalues[: usage.units])) / max(1, spectrum.features)
        reachable = fitting if bernoulli else min(fitting, max(linear, 0.0) or fitting)
        beside = against() if rho > FOUR * (NEAR if rough else 1) else None
        return cls(
            s, fitting, spectrum.threshold_bernoulli if bernoulli else spectrum.threshold, reconstruction.kept,
            min(usage.units, spectrum.above(s / NEAR if rough else s, bernoulli=bernoulli)),
            min(usage.units, spectrum.above(fitting, bernoulli=bernoulli)),
            excess.value, usage.rate, lost, excess.unknown, excess.hole, usage.gap, reachable,
            math.nan if beside is None else beside.share, rough,
        )  # fmt: skip

    def scale_fits(self, objective: Objective) -> bool:
        """Has the likelihood learned its scale, under a KL that counts about once? s is the residual then, and no weight.

        Where it counts once to the digit, a scale that does not fit is the scale's own fault (OUT04).
        """
        alike = 1 / FOUR <= self.s / max(self.fitting, 1e-300) <= FOUR
        return objective.learned_scale and (objective.counted_once or alike)

    @property
    def collapse_predicted(self) -> bool:
        return self.s > self.threshold

    @property
    def too_heavy(self) -> bool:
        """Collapse is the optimum; or more is lost than kept, although a fitting s would keep more directions."""
        surely = NEAR * self.fitting if self.rough else self.fitting
        starved = self.kept < HALF and self.s > surely and self.useful_now < self.useful_fitting
        return self.collapse_predicted or starved or self.blurred

    @property
    def blurred(self) -> bool:
        """The few strongest directions can hold most of the variance and little of what makes examples real."""
        return self.realness < HALF

    @property
    def licensed(self) -> bool:
        """s lies so far below what fits that the weight, not the networks, may be at fault."""
        return self.s < LICENCE * self.fitting

    @property
    def too_light(self) -> bool:
        """So it is, and the decoder does not know what N(0, I) draws."""
        return self.licensed and self.prior_excess > FAR


def _variance(subject: Any, objective: Objective, reconstruction: Reconstruction) -> float:
    """S; where each number has a variance of its own, what it is to the residual's variance as the weight of the KL is to
    the one that fits (the mean precision says little where a few numbers are known far better than the rest).
    """
    likelihood = audited_likelihood(subject)
    if objective.family != "gaussian per element" or likelihood is None:
        return objective.noise_variance
    ratio = standardised(likelihood, objective.regulariser.weight)
    return reconstruction.mse / ratio if ratio > 0 else objective.noise_variance
