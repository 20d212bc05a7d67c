"""Normalisation that is the same in training and in evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class BatchStatistics(Remedy):
    name = "batch_statistics"
    treats = ("TRN06",)
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "lets running statistics follow the batches: momentum 0.1", way="momentum")
        yield cls.treatment(code, "normalises each example by itself, without the batch", way="own")
