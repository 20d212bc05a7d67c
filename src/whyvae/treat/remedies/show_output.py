"""What is done to the output before it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.showing import Showing
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class ShowOutput(Remedy):
    name = "show_output"
    treats = ("GEN04",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        showing = case.get(Showing)
        if showing is None:
            return
        picture = showing.pictures[-1]
        if picture.left_out:
            yield cls.treatment(
                code, f"applies `{picture.left_out}` to the output, as training does", what="activation"
            )
        if picture.scrambled:
            yield cls.treatment(code, "puts the colours last by a transposition", what="colours")
        if not picture.left_out and picture.at is not None:
            how = dict(zip(("low", "high", "floor", "ceiling"), (*picture.given, *picture.allowed), strict=True))
            yield cls.treatment(
                code, "maps the range of the data to the one that can be shown", what="range",
                line=picture.at.line, file=picture.at.file, **how,
            )  # fmt: skip
        yield cls.treatment(code, "multiplies by 255 before rounding to bytes", what="bytes")
