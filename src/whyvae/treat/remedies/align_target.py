"""The target that belongs to the output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedies.paired import Paired
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class AlignTarget(Remedy):
    name = "align_target"
    treats = ("WIR04",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if not any(Paired.proposals(case, code)):  # else the target is right, and of another example
            yield cls.treatment(code, "compares the output with the encoder's own input, in its shape", what="input")
