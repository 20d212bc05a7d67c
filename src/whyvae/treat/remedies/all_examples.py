"""All the examples at hand, in place of a few."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.variety import Variety
from whyvae.treat.remedy import NoEdit, Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class AllExamples(Remedy):
    name = "all_examples"
    treats = ("DAT03", "TRN04")
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        variety = case.get(Variety)
        rows = variety.estimate if variety is not None and math.isfinite(variety.estimate) else 0.0
        if code == "TRN04" and variety is not None and rows > variety.rows:
            rows = 0.0  # most came once: the estimate says little
        found = cls.treatment(code, "trains on all the examples, not on a part of them", rows=round(rows))
        if code == "TRN04":  # few examples are one of its reasons: where a line of the script says so
            try:
                cls.edit(case, found.settings)
            except NoEdit:
                return
        yield found
