"""Hidden layers of the encoder or the decoder that are narrower than `width` get that width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.layers import Layers, by_arguments
from whyvae.treat.literals import written
from whyvae.treat.program import built, called
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    layers = Layers(sites)
    width = int(settings["width"])
    hidden = layers.of_part(str(settings["part"]))
    if not hidden:
        raise NoEdit(f"the {settings['part']} has no hidden layer to widen")
    narrow = [op for op in hidden if layers.width(op) < width]
    if not narrow:
        raise NoEdit(f"the hidden layers of the {settings['part']} have {width} units already")
    for op in narrow:
        if op.name != "linear":
            raise NoEdit(f"it narrows in a `{op.name}`: the width of that is not one number", where=_place(op))
        _widen(sites, layers, op, width)
    return sites.result()


def _widen(sites: Sites, layers: Layers, op: Op, width: int) -> None:
    old = layers.width(op)
    callee = called(sites, op)
    made = built(callee) if callee is not None else None
    if made is not None and isinstance(made.node, cst.Call):
        numbers = by_arguments(op, made, old)
        own = {f.name.value for f in made.source.nodes(cst.FunctionDef)}
        if numbers and made.source.code(made.node.func) in own:
            for node in numbers:
                made.source.replace(node, written(width))
            return
    layers.set(layers.outputs(op), old, width)
    for reader in layers.next(op):
        layers.set(layers.inputs(reader), old, width)


def _place(op: Op) -> str:
    return f"{op.place.file}:{op.place.line}" if op.place else ""
