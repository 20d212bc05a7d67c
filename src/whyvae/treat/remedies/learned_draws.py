"""New examples from draws of a prior that is learned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.objective import Objective
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class LearnedDraws(Remedy):
    name = "learned_draws"
    treats = ("GEN02",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective = case.get(Objective)
        if objective is not None and objective.prior_is_learned:
            yield cls.treatment(code, "decodes draws of the prior that was learned")
