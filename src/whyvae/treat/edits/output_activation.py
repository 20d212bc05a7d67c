"""Takes the activation at the decoder's end out; or, where the loss applies one itself, takes the loss without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.activations import after_last_layer, remove
from whyvae.treat.operands import imported
from whyvae.treat.program import built
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot

if TYPE_CHECKING:
    from whyvae.treat.case import Case

ON_PROBABILITIES = {
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "BCEWithLogitsLoss": "BCELoss",
}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    applied = after_last_layer(sites, case.subject.lineage.output)
    if not applied:
        raise NoEdit("no activation stands at the decoder's end")
    if settings.get("at") == "loss":
        _on_probabilities(sites)
    else:
        remove(sites, applied[0 if settings.get("at") == "first" else -1])
    return sites.result()


def _on_probabilities(sites: Sites) -> None:
    """The cross-entropy on probabilities in place of the one on logits."""
    tape, meeting = sites.subject.tape, sites.subject.lineage.meeting
    op = next((o for o in tape.ops if o.index == meeting.op), None)
    spot = None if op is None else sites.of(op)
    if op is None or spot is None or op.name not in ON_PROBABILITIES or not isinstance(spot.node, cst.Call):
        raise NoEdit("the loss on logits was not found")
    function = spot.node.func
    name = function.attr if isinstance(function, cst.Attribute) else function
    if spot.source.code(name) == op.name and op.name not in imported(spot.source):
        spot.source.replace(name, ON_PROBABILITIES[op.name])
        return
    made = built(Spot(spot.source, function))
    maker = made.node.func if made is not None and isinstance(made.node, cst.Call) else None
    if made is None or not isinstance(maker, cst.Attribute) or maker.attr.value not in ON_PROBABILITIES:
        raise NoEdit("the loss on logits is not called by its own name")
    made.source.replace(maker.attr, ON_PROBABILITIES[maker.attr.value])
