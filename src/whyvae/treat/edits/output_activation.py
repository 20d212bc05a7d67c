"""Takes the activation at the decoder's end out; or, where the loss applies one itself, takes the loss without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.activations import after_last_layer, remove
from whyvae.treat.operands import imported
from whyvae.treat.program import built
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.watch.tape import Op

if TYPE_CHECKING:
    from whyvae.treat.case import Case

LOG_INPUT = {"poisson_nll_loss": 2, "PoissonNLLLoss": 0}  # which argument it is, True by default
SHARES = "loss = F.cross_entropy(p.clamp(min=1e-8).log(), x)  # p: probabilities; a softmax of their logarithm is p\n"
ON_PROBABILITIES = {
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "BCEWithLogitsLoss": "BCELoss",
}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if settings.get("at") == "classes":
        _on_shares(sites)
        return sites.result()
    applied = after_last_layer(sites, case.subject.lineage.output)
    if not applied:
        raise NoEdit("no activation stands at the decoder's end")
    if settings.get("at") == "loss":
        op, spot = _loss(sites)
        (_on_rates if op.name in LOG_INPUT else _on_probabilities)(op, spot)
    else:
        remove(sites, applied[0 if settings.get("at") == "first" else -1])
    return sites.result()


def _loss(sites: Sites) -> tuple[Op, Spot]:
    tape, meeting = sites.subject.tape, sites.subject.lineage.meeting
    op = next((o for o in tape.ops if o.index == meeting.op), None)
    spot = None if op is None else sites.of(op)
    known = op is not None and op.name in {*ON_PROBABILITIES, *LOG_INPUT}
    if op is None or spot is None or not known or not isinstance(spot.node, cst.Call):
        raise NoEdit("the loss that has the activation inside was not found")
    return op, spot


def _on_shares(sites: Sites) -> None:
    """The logarithm of what the decoder's softmax makes goes into the cross-entropy: its own softmax gives that back."""
    subject = sites.subject
    decoded = subject.deps.descendants([subject.lineage.z])
    for op in subject.tape.ops:
        entering = [r for r in op.reads if r in decoded]
        if op.name != "cross_entropy" or not entering:
            continue
        spot = sites.operand(op, entering[0])
        if spot is not None:
            spot.source.replace(spot.node, f"{spot.closed}.clamp(min=1e-8).log()")
            return
    raise NoEdit("the cross-entropy that applies a softmax was not found", SHARES)


def _on_rates(op: Op, spot: Spot) -> None:
    """`log_input=False`, where the loss is called or where it is made."""
    call = spot.node
    assert isinstance(call, cst.Call)  # noqa: S101 - it was found as one
    if dotted(call.func).split(".")[-1] != op.name:
        made = Spot(spot.source, call.func) if isinstance(call.func, cst.Call) else built(Spot(spot.source, call.func))
        name = dotted(made.node.func).split(".")[-1] if made is not None and isinstance(made.node, cst.Call) else ""
        if made is None or not isinstance(made.node, cst.Call) or name not in LOG_INPUT:
            raise NoEdit("the loss on logarithms of rates is not called by its own name", "log_input=False")
        spot, call = made, made.node
    else:
        name = op.name
    given = next((a for a in call.args if a.keyword is not None and a.keyword.value == "log_input"), None)
    place = LOG_INPUT[name]
    if given is None and len(call.args) > place and call.args[place].keyword is None:
        given = call.args[place]
    if given is not None:
        spot.source.replace(given.value, "False")
    elif call.args:
        spot.source.cut(call.args[-1], call.args[-1], ", log_input=False")
    else:
        spot.source.replace(call, f"{spot.source.code(call.func)}(log_input=False)")


def _on_probabilities(op: Op, spot: Spot) -> None:
    """The cross-entropy on probabilities in place of the one on logits."""
    assert isinstance(spot.node, cst.Call)  # noqa: S101 - it was found as one
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
