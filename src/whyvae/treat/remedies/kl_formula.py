"""The KL of the posterior that is sampled, in place of a formula that is none, or has no gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import Any

from whyvae.probes.objective import Objective
from whyvae.probes.reconstruction import Reconstruction
from whyvae.treat.case import Case
from whyvae.treat.injector import Injector
from whyvae.treat.objective import posterior_settings, set_kl_weight
from whyvae.treat.remedy import Remedy, Treatment

JSON = dict[str, Any]


class KLFormula(Remedy):
    name = "kl_formula"
    treats = ("OBJ04", "OBJ05")

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective = case.get(Objective)
        if objective is None or not math.isfinite(objective.scale):
            return
        found: JSON = posterior_settings(case, objective) or {}
        yield cls.treatment(
            code, "the KL is that of the posterior which is sampled", weight=_weight(case, objective), **found
        )

    @classmethod
    def inject(cls, settings: JSON, injector: Injector) -> bool:
        return set_kl_weight(injector, settings)


def _weight(case: Case, objective: Objective) -> float:
    """The user's, where the formula has one; where it has no gradient, the one that fits the residual."""
    sizes = [abs(c) for c in objective.regulariser.coefficients[:3] if c]
    if sizes:
        return median(sizes)
    made = case.get(Reconstruction)
    fitting = 1.0 if objective.own_variance or made is None else made.mse
    return objective.scale * fitting
