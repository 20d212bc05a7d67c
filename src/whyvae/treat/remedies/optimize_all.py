"""Parameters that are stepped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class OptimizeAll(Remedy):
    name = "optimize_all"
    treats = ("WIR01",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "gives the optimiser the parameters it lacks")
