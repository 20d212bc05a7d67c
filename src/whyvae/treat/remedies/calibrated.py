"""The noise variance follows the residual: the loss (D/2) log MSE + KL of Rybkin, Daniilidis & Levine (2021, ICML)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from whyvae.probes.objective import Objective
from whyvae.treat.case import Case
from whyvae.treat.injector import Injector
from whyvae.treat.objective import add_kl, meeting_settings, posterior_settings, watch_residual
from whyvae.treat.remedy import Remedy, Treatment

JSON = dict[str, Any]


class Calibrated(Remedy):
    name = "calibrated"
    treats = ("OBJ01", "OBJ02", "OBJ03", "OUT04", "GEN01")

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective = case.get(Objective)
        if objective is None or objective.family != "gaussian" or objective.learned_scale:
            return
        posterior, meeting = posterior_settings(case, objective), meeting_settings(case)
        found = {**posterior, **meeting, "scale": objective.scale} if posterior and meeting else {}
        yield cls.treatment(code, "the noise variance follows the residual: (D/2) log MSE + KL", **found)

    @classmethod
    def inject(cls, settings: JSON, injector: Injector) -> bool:
        if "posterior" not in settings:
            return False
        residual = watch_residual(injector, settings)

        def weight(_: Injector) -> float | None:
            mse = residual()
            return None if mse is None else settings["scale"] * mse

        add_kl(injector, settings, weight)
        return True
