"""Logarithms of numbers above 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.logs import of_output
from whyvae.treat.places import misplaced
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class GuardedLog(Remedy):
    name = "guarded_log"
    treats = ("TRN01",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if of_output(case.subject) and misplaced(case.subject) is None:
            yield cls.treatment(code, "keeps what a logarithm is taken of above 0")
