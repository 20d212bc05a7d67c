"""A learning rate that is lowered once an epoch, not once a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.treat.remedy import NoEdit, Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case

LOWERED = 0.01  # of the largest rate of the run: below it steps move nothing
NIL = 1e-9  # of it: no schedule that ends with the run comes as low; this one was over long before


class EpochSchedule(Remedy):
    name = "epoch_schedule"
    treats = ("TRN03",)
    safety: ClassVar[Safety] = "retrain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        """Where the script has such a schedule: what this changes is a line of it."""
        shares = [o.lr / o.largest_lr for o in case.subject.optimizers if o.largest_lr > 0]
        for way, says, limit in (
            ("epoch", "lowers the learning rate once an epoch, not once a batch", LOWERED),
            ("without", "leaves out the schedule that lowers the learning rate", NIL),
        ):
            if any(share < limit for share in shares) and cls._has(case, way):
                yield cls.treatment(code, says, way=way)

    @classmethod
    def _has(cls, case: Case, way: str) -> bool:
        try:
            return bool(cls.edit(case, {"way": way}))
        except NoEdit:
            return False
