"""Examples of a batch that do not mix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class RowsApart(Remedy):
    name = "rows_apart"
    treats = ("WIR03",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "works along the features instead of along the batch", way="axis")
        yield cls.treatment(code, "leaves out the step at which examples of a batch mix", way="without")
