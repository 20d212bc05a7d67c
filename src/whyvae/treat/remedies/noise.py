"""The noise of the reparametrisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class Noise(Remedy):
    name = "noise"
    treats = ("POS03",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(
            code, "draws N(0, 1) noise for each number of each example, and scales it by the standard deviation"
        )
