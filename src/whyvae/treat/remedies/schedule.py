"""A schedule of the KL weight that ends within the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from whyvae.probes.balance import Balance
from whyvae.probes.schedule import Schedule as Weights
from whyvae.treat.remedy import Remedy, Treatment

if TYPE_CHECKING:
    from whyvae.treat.case import Case

# Of the run. The fitting weight is read off a residual that a light KL left, which a whole one doubles: a quarter by that
# reading ends at about half, with as much left to train with the whole weight.
WITHIN = 0.25


class Schedule(Remedy):
    name = "schedule"
    treats = ("OBJ07",)

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        weights, balance = case.get(Weights), case.get(Balance)
        if weights is None or balance is None or not 0 < weights.last < balance.fitting:
            return
        factor = float(f"{WITHIN * weights.last / balance.fitting:.2g}")  # of a schedule that rises evenly
        yield cls.treatment(
            code,
            f"ends the schedule of the KL weight within half of the training ({factor:g} times its length)",
            factor=factor,
        )
