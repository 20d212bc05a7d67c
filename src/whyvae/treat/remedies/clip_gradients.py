"""The gradient's norm, limited."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from whyvae.treat.places import misplaced
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.treat.stepping import clip_gradients
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.injector import Injector


NORM = 10.0  # of the gradient of a loss per example: above it steps are outliers
OWN_LENGTH = {"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop"}  # divide a gradient by its own usual size
LARGE = 0.01  # a rate of those, ten times the usual one: each weight moves by it, whatever the gradient's norm


class ClipGradients(Remedy):
    name = "clip_gradients"
    treats = ("TRN01", "TRN02")
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        if code == "TRN01" and misplaced(case.subject) is not None:
            return  # no rate helps a loss of the wrong arguments
        optimizers = case.subject.optimizers
        if optimizers and all(o.name in OWN_LENGTH and o.largest_lr > LARGE for o in optimizers):
            return
        yield cls.treatment(code, f"limits the norm of the gradient to {NORM:g}", norm=NORM)

    @classmethod
    def inject(cls, settings: dict[str, Any], injector: Injector) -> bool:
        return clip_gradients(injector, settings["norm"])
