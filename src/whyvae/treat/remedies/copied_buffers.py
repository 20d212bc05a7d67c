"""The running statistics of a copy of the model, copied with its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.copies import CopiedStatistics
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class CopiedBuffers(Remedy):
    name = "copied_buffers"
    treats = ("TRN06",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        copy = case.get(CopiedStatistics)
        if copy is not None and copy.fresh:
            yield cls.treatment(code, "copies the running statistics with the weights")
