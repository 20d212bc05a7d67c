"""Logarithms of the output are taken of numbers above 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.logs import of_output
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites
from whyvae.watch.tape import Ref

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "p = p.clamp(1e-6, 1 - 1e-6)  # before torch.log(p) and torch.log(1 - p)\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    for op in of_output(case.subject):
        inner = next((s for value, s in sites.operands(op) if isinstance(value, Ref)), None)
        if inner is not None and "clamp" not in inner.code and "1e-" not in inner.code:
            inner.source.replace(inner.node, f"{inner.closed}.clamp_min(1e-6)")
    try:
        return sites.result()
    except NoEdit as no:
        raise NoEdit("no logarithm of an output was found that can be of 0", SNIPPET) from no
