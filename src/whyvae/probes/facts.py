"""What the report says of the subject before any judgement."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.auditable import COMPARES
from whyvae.probes.balance import FAR
from whyvae.probes.bypass import SAVED, Bypass
from whyvae.probes.data import Data
from whyvae.probes.generation import HALF, Ladder
from whyvae.probes.objective import Objective
from whyvae.watch.beside import FURTHER, SHOWN


@dataclass(frozen=True)
class LossFacts(Probe):
    """Likelihood, noise variance, and what of the loss could not be audited."""

    likelihood: str
    noise_variance: float
    limits: tuple[str, ...]

    @classmethod
    def measure(cls, subject: Any, objective: Objective, ladder: OnDemand[Ladder]) -> Self:
        limits = []
        if objective.not_auditable == COMPARES and not _covered(ladder()):
            limits.append("the regulariser compares examples with each other, and is not audited")
        if objective.not_auditable and not objective.not_auditable.startswith("does not apply"):
            limits.append(f"the regulariser cannot be audited: {objective.not_auditable}")
        if objective.family == "unknown":
            limits.append("the likelihood was not recognised: the balance of the two terms is not judged")
        # of what is no KL, no weight is known
        variance = objective.noise_variance if objective.weight_known else math.nan
        return cls(objective.likelihood_name, variance, tuple(limits))


def _covered(ladder: Ladder | None) -> bool:
    """Do draws from N(0, I) decode as well as draws from where encodings lie? Then a regulariser does what it is for."""
    return ladder is not None and ladder.prior_quality >= HALF and ladder.prior_excess <= FAR


def answered(get: Any) -> tuple[str, ...]:
    """Those limits of a subject to which a measurement gives the answer."""
    found = []
    with suppress(CannotMeasure):
        bypass = get(Bypass)
        told = bypass.by_past and bypass.gain >= SAVED  # z tells more than its own past does, as POS05 asks
        found += [SHOWN] if not bypass.matters or told else []
    with suppress(CannotMeasure):
        regulariser = get(Objective).regulariser
        found += [FURTHER] if regulariser.flow_prior or (regulariser.conditional and regulariser.held) else []
    return tuple(found)


def described(get: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(facts of likelihood and data, limits) from whatever can be measured; `get` asks the bench for a probe."""
    facts: dict[str, Any] = {}
    limits: tuple[str, ...] = ()
    try:
        loss = get(LossFacts)
        facts["likelihood"], limits = loss.likelihood, loss.limits
        if math.isfinite(loss.noise_variance):
            facts["noise_variance"] = loss.noise_variance
    except CannotMeasure as reason:
        limits = (reason.reason,)
    try:
        data = get(Data)
        facts["data"] = {"shape": list(data.shape), "range": [data.low, data.high]}
    except CannotMeasure:
        pass
    return facts, limits
