"""The gradient's norm, limited."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.logs import exchanged
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


NORM = 10.0  # of the gradient of a loss per example: above it steps are outliers


class ClipGradients(Remedy):
    name = "clip_gradients"
    treats = ("TRN01", "TRN02")
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if code == "TRN01" and exchanged(case.subject) is not None:
            return  # no rate helps a loss of the wrong arguments
        yield cls.treatment(code, f"limits the norm of the gradient to {NORM:g}", norm=NORM)
