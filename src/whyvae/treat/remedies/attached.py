"""What cuts a gradient, taken out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class Attached(Remedy):
    name = "attached"
    treats = ("OBJ04", "WIR05")
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if code == "WIR05":
            yield cls.treatment(code, "lets the decoder's gradient pass z to the encoder", what="z")
        else:
            yield cls.treatment(code, "lets the gradient of the KL reach mu and sigma", what="kl")
