"""A rectifier behind each layer of a part whose layers are one linear map, but for the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.layers import Layers, in_row
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op

SNIPPET = "h = torch.relu(self.fc1(z))  # so behind each hidden layer\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    layers = Layers(sites)
    hidden = layers.of_part(str(settings["part"]))
    if not hidden:
        raise NoEdit(f"the {settings['part']} has no hidden layer")
    done: set[int] = set()
    for op in hidden:
        spot = _bent(layers, op)
        if id(spot.node) not in done:  # one that is called twice, or built in a loop
            done.add(id(spot.node))
            _follow(spot)
    return sites.result()


def _follow(spot: Spot) -> None:
    source, (start, end) = spot.source, spot.source.offsets(spot.node)
    if in_row(spot):
        source.splice(end, end, f", {_module(spot)}.ReLU()")
    elif isinstance(spot.node, cst.Call):
        source.splice(end, end, ".relu()")
    else:
        source.splice(start, start, "(")
        source.splice(end, end, ").relu()")


def _bent(layers: Layers, op: Op) -> Spot:
    """What a rectifier is to stand behind: the layer in the row it is built in, or the call that uses it.

    Raises:
        NoEdit: neither stands in the source by itself.
    """
    try:
        made = layers.builder(op)
    except NoEdit:
        made = None
    if made is not None and in_row(made) and _module(made):
        return made
    call = layers.sites.of(op)
    if call is None or not isinstance(call.node, cst.Call | cst.BinaryOperation):
        raise NoEdit("a layer is neither built nor called where a rectifier could follow", SNIPPET)
    if sum(o.frames == op.frames for o in layers.of_part("encoder") + layers.of_part("decoder")) > 1:
        raise NoEdit("several layers are called at once, and how they are built was not understood", SNIPPET)
    above = call.source.parent(call.node)
    if isinstance(call.node, cst.BinaryOperation) and isinstance(above, cst.BinaryOperation):
        bias = isinstance(above.operator, cst.Add)
        return Spot(call.source, above) if bias else call
    return call


def _module(made: Spot) -> str:
    """`nn` of `nn.Linear(...)`."""
    return dotted(made.node.func).rpartition(".")[0] if isinstance(made.node, cst.Call) else ""
