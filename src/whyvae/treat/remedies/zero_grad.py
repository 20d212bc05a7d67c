"""Gradients that are cleared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from whyvae.treat.remedy import Remedy, Treatment
from whyvae.treat.stepping import clear_gradients
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.injector import Injector


class ZeroGrad(Remedy):
    name = "zero_grad"
    treats = ("WIR02",)
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        yield cls.treatment(code, "clears the gradients before each backward")

    @classmethod
    def inject(cls, settings: dict[str, Any], injector: Injector) -> bool:
        return clear_gradients(injector)
