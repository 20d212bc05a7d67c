"""More latent units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case

TIMES = (2, 4)


class MoreLatents(Remedy):
    name = "more_latents"
    treats = ("CAP03",)
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        latents = case.subject.lineage.latents
        for times in TIMES:
            many = max(times * latents, 4 * times)
            yield cls.treatment(code, f"gives the latent {many} units instead of {latents}", latents=many)
