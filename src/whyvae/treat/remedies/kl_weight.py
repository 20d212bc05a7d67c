"""The KL rescaled to the weight that fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from whyvae.probes.balance import Balance
from whyvae.probes.objective import Objective
from whyvae.treat.case import Case
from whyvae.treat.injector import Injector
from whyvae.treat.objective import posterior_settings, set_kl_weight
from whyvae.treat.remedy import Remedy, Treatment

JSON = dict[str, Any]
ALIKE = 3.0  # times: factors nearer than this to each other are not tried side by side


class KLWeight(Remedy):
    name = "kl_weight"
    treats = ("OBJ01", "OBJ03", "GEN01")

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective, balance = case.get(Objective), case.get(Balance)
        if objective is None or balance is None or not objective.weight_known or balance.scale_fits(objective):
            return
        found: JSON = posterior_settings(case, objective) or {}
        tried: list[float] = []
        for factor in _factors(objective, balance):
            if factor == 1 or any(abs(math.log(factor / other)) < math.log(ALIKE) for other in tried):
                continue
            if (code == "OBJ01") != (factor < 1):
                continue  # lighter where it is too heavy, heavier where it is too light
            tried.append(factor)
            yield cls.treatment(
                code, f"the KL counts {factor:.3g} times as much", factor=factor,
                weight=factor * objective.regulariser.weight, **found,
            )  # fmt: skip

    @classmethod
    def inject(cls, settings: JSON, injector: Injector) -> bool:
        return set_kl_weight(injector, settings)


def _factors(objective: Objective, balance: Balance) -> Iterable[float]:
    """To the ELBO as it is usually written (the sum of squares and the KL: s = 1/2), where that fits; to the residual.

    Where the likelihood learns its scale, that of the residual now: whatever the scale comes to, the KL then counts once.
    """
    if objective.learned_scale:
        yield _rounded(balance.fitting / balance.s)
        return
    usual = 1.0 if objective.own_variance else 0.5
    if not objective.own_variance and not balance.reachable / 3 < usual < 3 * balance.reachable:
        usual = balance.reachable
    for s in (usual, balance.reachable):
        if s > 0:
            yield _rounded(s / balance.s)


def _rounded(factor: float) -> float:
    """To two digits: what a person would write."""
    return float(f"{factor:.2g}")
