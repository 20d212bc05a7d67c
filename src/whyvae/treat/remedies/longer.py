"""More steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.branch import BARELY
from whyvae.treat.remedies.learning_rate import rate_wanted
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


TIMES, TIMES_OF_FEW = (3, 10), (10, 30)
FEW = 300  # steps: of a training this short, three times as many are few still


class Longer(Remedy):
    name = "longer"
    treats = ("TRN03",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if rate_wanted(case) > BARELY:
            return  # with steps that are far too small, a few times as many come to nothing
        for times in TIMES_OF_FEW if case.subject.count < FEW else TIMES:
            yield cls.treatment(code, f"trains {times} times as long", times=times)
