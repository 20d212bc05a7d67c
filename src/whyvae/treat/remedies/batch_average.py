"""Both terms averaged over the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class BatchAverage(Remedy):
    name = "batch_average"
    treats = ("OBJ06",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "averages both terms over the batch")
