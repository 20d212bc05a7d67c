"""LeakyReLU in place of ReLU: a unit that never fires still gets a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites

if TYPE_CHECKING:
    from whyvae.treat.case import Case


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    for op in case.subject.tape.ops:
        spot = sites.of(op) if op.name in {"relu", "relu_"} else None
        for call in spot.source.nodes(cst.Call) if spot is not None else ():
            function = call.func
            name = function.attr if isinstance(function, cst.Attribute) else function
            text = spot.source.code(name) if spot is not None else ""
            if spot is not None and text == "ReLU":
                spot.source.replace(call, f"{spot.source.code(function)[:-4]}LeakyReLU(0.1)")
            elif spot is not None and text == "relu" and spot.source.code(function) in {"F.relu", "nn.functional.relu"}:
                spot.source.replace(name, "leaky_relu")
    try:
        return sites.result()
    except NoEdit as no:
        raise NoEdit("no ReLU is written in your code", "nn.LeakyReLU(0.1)  # in place of nn.ReLU()\n") from no
