"""The scale that the decoder's distribution is given as a number, brought to the residual."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.decoder_noise import DecoderNoise
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class StatedScale(Remedy):
    name = "stated_scale"
    treats = ("OUT04",)
    safety: ClassVar[Safety] = "retrain"
    of_part = True

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        noise = case.get(DecoderNoise)
        if noise is None or noise.learned or not 0 < noise.ratio < math.inf:
            return
        factor = float(f"{math.sqrt(noise.ratio):.2g}")
        yield cls.treatment(code, f"gives the decoder's distribution {factor:g} times the scale", factor=factor)
