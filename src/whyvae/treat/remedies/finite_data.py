"""Data without NaN."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class FiniteData(Remedy):
    name = "finite_data"
    treats = ("DAT01",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "divides by no spread of 0, and takes no logarithm of 0", way="made")
        yield cls.treatment(code, "leaves out the examples that hold NaN or infinity", way="left out")
