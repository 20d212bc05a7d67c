"""Units that cannot die."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class LivingUnits(Remedy):
    name = "living_units"
    treats = ("TRN05",)
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "uses LeakyReLU in place of ReLU")
