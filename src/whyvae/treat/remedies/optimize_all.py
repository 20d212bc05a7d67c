"""Parameters that are stepped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.treat.stepping import optimise_all
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.injector import Injector


class OptimizeAll(Remedy):
    name = "optimize_all"
    treats = ("WIR01",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        by_hand = {} if case.subject.optimizers else {"by_hand": True}
        yield cls.treatment(code, "steps the parameters that are left out", **by_hand)

    @classmethod
    def inject(cls, settings: dict[str, Any], injector: Injector) -> bool:
        return not settings.get("by_hand") and optimise_all(injector)
