"""Another learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from whyvae.probes.branch import BARELY, BranchTest
from whyvae.treat.places import misplaced
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.treat.stepping import scale_rates
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.injector import Injector


DOWN, UP = (0.1, 0.01), (3.0, 10.0)


class LearningRate(Remedy):
    name = "learning_rate"
    treats = ("TRN01", "TRN02", "TRN03")
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if code == "TRN01" and misplaced(case.subject) is not None:
            return  # no rate helps a loss of the wrong arguments
        for factor in _up(case) if code == "TRN03" else DOWN:
            by_hand = {} if case.subject.optimizers else {"by_hand": True}
            yield cls.treatment(code, f"takes {factor:g} times the learning rate", factor=factor, **by_hand)

    @classmethod
    def inject(cls, settings: dict[str, Any], injector: Injector) -> bool:
        return not settings.get("by_hand") and scale_rates(injector, settings["factor"])


def _up(case: Case) -> tuple[float, ...]:
    """Where it was seen from the trained model how much larger steps gain most: that, and more, as from the start on still
    larger ones may do.
    """
    factor = rate_wanted(case)
    return (factor, 10 * factor) if factor > BARELY else UP


def rate_wanted(case: Case) -> float:
    """By how much the rate should have been larger, as far as a branch test can tell; else 1."""
    branch = case.get(BranchTest)
    return branch.decisive.factor if branch is not None and branch.arms else 1.0
