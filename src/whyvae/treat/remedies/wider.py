"""Wider hidden layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.widths import Widths
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case

LEAST = 128  # units of a first try: small models learn small data with them
TIMES = (8, 32)  # the narrowest layer's units times this, if that is more


class Wider(Remedy):
    name = "wider"
    treats = ("CAP01", "CAP02")
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        widths = case.get(Widths)
        part = "encoder" if code == "CAP01" else "decoder"
        if widths is None:
            return
        narrow = widths.encoder if part == "encoder" else widths.decoder
        if part == "encoder" and narrow == 0:
            return
        for times, least in zip(TIMES, (LEAST, 4 * LEAST), strict=True):
            width = max(least, narrow * times)
            says = f"gives the {part}'s hidden layers {width} units (the narrowest has {narrow})"
            if narrow == 0:
                says = f"gives the {part} a hidden layer of {width} units"
            yield cls.treatment(code, says, part=part, width=width)
