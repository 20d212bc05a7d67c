"""Rectifiers between layers that have none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.straight import Straight
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class ActivationsBetween(Remedy):
    name = "activations_between"
    treats = ("CAP01", "CAP02")
    safety: ClassVar[Safety] = "architecture"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        straight, part = case.get(Straight), "encoder" if code == "CAP01" else "decoder"
        layers = getattr(straight, part) if straight is not None else 0
        if layers:
            yield cls.treatment(code, f"puts a rectifier between the {layers} layers of the {part}", part=part)
