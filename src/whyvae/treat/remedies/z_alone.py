"""A decoder that is given z alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class ZAlone(Remedy):
    name = "z_alone"
    treats = ("POS05",)
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "shows the decoder zeros in place of what came from the data beside z")
