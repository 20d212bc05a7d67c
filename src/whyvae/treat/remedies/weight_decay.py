"""Weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.treat.stepping import decay_weights
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.injector import Injector


DECAY = 1e-2  # as AdamW has it by default


class WeightDecay(Remedy):
    name = "weight_decay"
    treats = ("TRN04",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, f"adds a weight decay of {DECAY:g}", decay=DECAY)

    @classmethod
    def inject(cls, settings: dict[str, Any], injector: Injector) -> bool:
        return decay_weights(injector, settings["decay"])
