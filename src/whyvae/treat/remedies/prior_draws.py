"""New examples from draws of the prior."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.objective import Objective
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class PriorDraws(Remedy):
    name = "prior_draws"
    treats = ("GEN02",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective = case.get(Objective)
        if objective is not None and objective.prior_is_learned:
            return  # only the script knows how to draw from its own
        yield cls.treatment(code, "decodes draws of the prior, N(0, 1)")
