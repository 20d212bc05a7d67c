"""Evaluation mode where new examples are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class EvalMode(Remedy):
    name = "eval_mode"
    treats = ("GEN03",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "makes new examples in evaluation mode")
