"""Samples in the units of the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.undone import Undone
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case

OFF = 0.01  # of the data's variance: less is an estimate on a part of the data


class UndoScaling(Remedy):
    name = "undo_scaling"
    treats = ("GEN04",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        units = case.get(Undone)
        if units is None or units.moved < OFF:
            return
        yield cls.treatment(code, "takes samples back by the inverse of the scaling of the data", way="inverse")
        yield cls.treatment(code, "takes samples back to the units of the data where they are made", way="samples")
