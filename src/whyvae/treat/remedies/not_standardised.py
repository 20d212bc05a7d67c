"""Data in [0, 1], as it was before it was standardised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from whyvae.probes.data import Data
from whyvae.treat.remedy import NoEdit, Remedy, Treatment

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class NotStandardised(Remedy):
    name = "not_standardised"
    treats = ("OUT02",)

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        """Where the script has such a line: what this changes is that."""
        data = case.get(Data)
        if data is None or data.target_low >= 0:
            return
        found = cls.treatment(
            code, "leaves the data in [0, 1], without the standardisation", low=data.target_low, high=data.target_high
        )
        try:
            cls.edit(case, found.settings)
        except NoEdit:
            return
        yield found
