"""Weight decay, in the optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.literals import written
from whyvae.treat.optimisers import add_setting, maker_of, setting
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites

WITHOUT = {"LBFGS", "Rprop", "SparseAdam"}

if TYPE_CHECKING:
    from whyvae.treat.case import Case


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites, decay = Sites(case), written(float(settings["decay"]))
    for i in range(max(1, len(case.subject.optimizers))):
        if case.subject.optimizers and case.subject.optimizers[i].name in WITHOUT:
            raise NoEdit(f"{case.subject.optimizers[i].name} knows no weight decay")
        maker = maker_of(sites, i)
        given = setting(maker, "weight_decay")
        if given is None:
            add_setting(maker, f"weight_decay={decay}")
        else:
            maker.source.replace(given, decay)
    return sites.result()
