"""Samples in the units of the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.undone import Undone
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class UndoScaling(Remedy):
    name = "undo_scaling"
    treats = ("GEN04",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if case.get(Undone) is None:
            return
        yield cls.treatment(code, "takes samples back by the inverse of the scaling of the data", way="inverse")
        yield cls.treatment(code, "takes samples back to the units of the data where they are made", way="samples")
