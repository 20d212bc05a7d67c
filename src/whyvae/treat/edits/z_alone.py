"""Where a way around z joins what z makes, zeros of the same shape come by that way: `torch.cat([z, torch.zeros_like(h)], 1)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.probes.bypass import joins
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op

SNIPPET = "output = decoder(z)  # z alone: no input, no hidden state of the encoder beside it\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    where, lineage = "", case.subject.lineage
    for op, beside in joins(case.subject, (lineage.z, *lineage.candidates)):
        spot = sites.of(op)
        where = where or (spot.where if spot is not None else "")
        for value in _operands(sites, op, beside):
            value.source.scale(value.node, "torch.zeros_like(", ")")
    try:
        return sites.result()
    except NoEdit as no:
        raise NoEdit("what joins z there is not written as an operand of its own", SNIPPET, where) from no


def _operands(sites: Sites, op: Op, beside: set[int]) -> Iterator[Spot]:
    """The expressions of the slots in `beside`: operands, or elements of the list that is one."""
    spot = sites.of(op)
    if spot is None:
        return
    found = [s for value, s in sites.operands(op) if getattr(value, "slot", None) in beside]
    if not found and isinstance(spot.node, cst.Call) and spot.node.args:  # cat([z, h], 1): one slot an element
        parts = elements(spot.node.args[0].value)
        if len(parts) == len(op.reads):
            found = [Spot(spot.source, p) for p, slot in zip(parts, op.reads, strict=True) if slot in beside]
    yield from found
