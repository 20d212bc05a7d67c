"""The heads without an activation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class FreeHeads(Remedy):
    name = "free_heads"
    treats = ("POS04",)
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "leaves out the activation behind the layers that make mu and sigma")
