"""The reconstruction term, smallest where output equals target."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.objective import Objective
from whyvae.probes.sight import Sight
from whyvae.treat.places import has_bottom_when_turned, misplaced
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class ReconstructionFormula(Remedy):
    name = "reconstruction_formula"
    treats = ("OBJ08", "TRN01")
    safety: ClassVar[Safety] = "certain"
    of_part = True

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective, sight = case.get(Objective), case.get(Sight)
        if misplaced(case.subject) is not None:
            yield cls.treatment(code, "exchanges output and target in the reconstruction term", mistake="exchanged")
        elif sight is not None and sight.blind:
            yield cls.treatment(code, "squares the errors before they are added, not after", mistake="added first")
        elif code == "OBJ08" and _turned(objective) and has_bottom_when_turned(case.subject):
            yield cls.treatment(code, "turns the sign of the reconstruction term", mistake="sign")


def _turned(objective: Objective | None) -> bool:
    return objective is not None and (objective.sign < 0 or objective.pull < 0)
