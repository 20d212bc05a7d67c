"""Fewer steps: stop before the examples are learnt by heart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


TIMES = (0.3, 0.1)


class Shorter(Remedy):
    name = "shorter"
    treats = ("TRN04",)
    safety: ClassVar[Safety] = "retrain"
    source_form = "longer"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        for times in TIMES:
            yield cls.treatment(code, f"stops after {times:.0%} of the steps", times=times)
