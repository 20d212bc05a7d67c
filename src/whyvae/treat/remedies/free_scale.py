"""The decoder's learned scale, free to reach the residual."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.decoder_noise import DecoderNoise
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class FreeScale(Remedy):
    name = "free_scale"
    treats = ("OUT04",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        noise = case.get(DecoderNoise)
        if noise is not None and noise.learned:
            bound = "min" if noise.ratio < 1 else "max"
            yield cls.treatment(code, "lets the decoder's scale follow the residual", bound=bound)
