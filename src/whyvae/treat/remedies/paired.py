"""Inputs and their own targets, drawn together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import NoEdit, Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class Paired(Remedy):
    name = "paired"
    treats = ("WIR04",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        """Where the script draws them apart: of a target that is no input `align_target` knows nothing."""
        found = cls.treatment(code, "draws inputs and targets together")
        try:
            cls.edit(case, {})
        except NoEdit:
            return
        yield found
