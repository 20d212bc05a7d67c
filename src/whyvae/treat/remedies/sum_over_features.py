"""Each term summed over features or latents and averaged over the batch, the KL with weight 1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from whyvae.probes.objective import Objective
from whyvae.probes.parts import further_parts
from whyvae.treat.case import Case
from whyvae.treat.injector import Injector
from whyvae.treat.objective import posterior_settings, set_kl_weight
from whyvae.treat.remedy import Remedy, Treatment

JSON = dict[str, Any]


class SumOverFeatures(Remedy):
    name = "sum_over_features"
    treats = ("OBJ02", "OBJ06")
    of_part = True

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective = case.get(Objective)
        if objective is None or not objective.weight_known:
            return
        # another weight of the KL would move it against all likelihoods of the loss
        several = case.part or further_parts(case.subject)
        found: JSON = {} if several else posterior_settings(case, objective) or {}
        yield cls.treatment(
            code, "both terms are summed over features and latents, and averaged over the batch",
            weight=_as_heavy_as_a_nat(objective), **found,
        )  # fmt: skip

    @classmethod
    def inject(cls, settings: JSON, injector: Injector) -> bool:
        return set_kl_weight(injector, settings)


def _as_heavy_as_a_nat(objective: Objective) -> float:
    """What a nat of the likelihood weighs in the loss, as it is usually written."""
    if objective.learned_scale:  # a density, as it stands: the scale of its squares is still on its way
        return 1 / objective.reductions.reconstruction
    usual = 1.0 if objective.own_variance else 0.5  # the sum of squares is twice minus log N(x; x_hat, 1)
    return objective.scale * usual
