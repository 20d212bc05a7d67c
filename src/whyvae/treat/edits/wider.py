"""Hidden layers of the encoder or the decoder that are narrower than `width` get that width; a decoder without any gets one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.layers import CONVOLUTIONS, RESHAPING, Layers, by_arguments, in_row
from whyvae.treat.program import built, called
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted

MOST_TIMES = 4  # of the channels: the cost of a convolution grows with their square

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source
    from whyvae.watch.tape import Op


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    layers = Layers(sites)
    width = int(settings["width"])
    hidden = layers.of_part(str(settings["part"]))
    if not hidden and settings["part"] == "decoder":
        _deepen(layers, width)
        return sites.result()
    if not hidden:
        raise NoEdit(f"the {settings['part']} has no hidden layer to widen")
    narrow = [op for op in hidden if _made(layers, op) < width]
    if not narrow:
        raise NoEdit(f"the hidden layers of the {settings['part']} have {width} units already")
    if any(_of_channels(layers, op) for op in narrow):
        least = min(_made(layers, op) for op in narrow)
        times = min(MOST_TIMES, -(-width // least))
        for op in hidden:
            _multiply(layers, op, times)
        return sites.result()
    try:
        for op in narrow:
            _widen(sites, layers, op, width)
    except NoEdit as no:
        if sites.edited or not _as_written(sites, str(settings["part"]), {layers.width(op) for op in narrow}, width):
            raise no from None
    return sites.result()


def _as_written(sites: Sites, part: str, widths: set[int], width: int) -> bool:
    """Where layers are made in a loop: `decoder=[8, 16]` in a configuration, the one list or setting that holds all `widths`."""
    places: dict[int, list[Spot]] = {}
    for source in sites.family:
        for node in source.nodes(cst.Integer):
            holder = _setting(source, node)
            if holder is not None and node.evaluated_value in widths:
                places.setdefault(id(holder), []).append(Spot(source, node))
    found = [
        (_called(spots[0]), spots) for spots in places.values()
        if {s.node.evaluated_value for s in spots if isinstance(s.node, cst.Integer)} == widths
    ]  # fmt: skip
    named = [spots for name, spots in found if part[:3] in name.lower()]
    chosen = named or [spots for _, spots in found]
    if len(chosen) != 1:
        return False
    for spot in chosen[0]:
        spot.source.replace(spot.node, str(width))
    return True


def _setting(source: Source, node: cst.CSTNode) -> cst.CSTNode | None:
    """The list that a number is an element of, or the argument, default or assignment whose value it is; else None."""
    above = source.parent(node)
    if isinstance(above, cst.Element):
        return source.parent(above)
    named = isinstance(above, cst.Arg) and above.keyword is not None
    return above if named or isinstance(above, cst.Assign | cst.AnnAssign | cst.Param | cst.DictElement) else None


def _called(spot: Spot) -> str:
    """What the value a number stands in is called: a keyword, a name, a parameter, a key."""
    for above in spot.source.above(spot.node):
        if isinstance(above, cst.Arg) and above.keyword is not None:
            return above.keyword.value
        if isinstance(above, cst.Param):
            return above.name.value
        if isinstance(above, cst.DictElement):
            return spot.source.code(above.key)
        if isinstance(above, cst.Assign):
            return dotted(above.targets[0].target)
        if isinstance(above, cst.AnnAssign):
            return dotted(above.target)
    return ""


def _made(layers: Layers, op: Op) -> int:
    """Numbers of an example that a convolution makes, of a row that another layer does."""
    if op.name not in CONVOLUTIONS:
        return layers.width(op)
    slot = layers.tape.slots[op.outs[0]]
    return int(slot.numel // slot.shape[0])


def _of_channels(layers: Layers, op: Op) -> bool:
    """Is its width one of channels, its own or those of the picture its row is laid out to?"""
    return op.name in CONVOLUTIONS or any(reader.name in RESHAPING for reader in layers.next(op))


def _deepen(layers: Layers, width: int) -> None:
    """A hidden layer for a decoder that is one linear layer."""
    only = layers.all_of_part("decoder")
    if len(only) != 1 or only[0].name != "linear":
        raise NoEdit("the decoder is no single linear layer")
    made = layers.builder(only[0])
    assert isinstance(made.node, cst.Call)  # noqa: S101 - a builder is a call
    code, module = made.source.code, dotted(made.node.func).rpartition(".")[0]
    if not module or len(made.node.args) < 2 or any(a.keyword is not None or a.star for a in made.node.args[:2]):
        raise NoEdit("the sizes of the decoder's layer are not written as its first arguments", where=made.where)
    taken, given, *rest = (code(a).strip(" ,") for a in made.node.args)
    first, last = (", ".join([*sizes, *rest]) for sizes in ((taken, str(width)), (str(width), given)))
    layer = code(made.node.func)
    three = f"{layer}({first}), {module}.ReLU(), {layer}({last})"
    made.source.replace(made.node, three if in_row(made) else f"{module}.Sequential({three})")


def _multiply(layers: Layers, op: Op, times: int) -> None:
    """A layer of a network with convolutions: its channels, and what reads them."""
    if op.name not in {*CONVOLUTIONS, "linear"}:
        raise NoEdit(f"a `{op.name}` has no width of its own", where=_place(op))
    layers.set(layers.outputs(op), layers.width(op), times * layers.width(op))
    for reader in layers.next(op):
        if reader.name in RESHAPING:
            told, size = layers.channels(reader), layers.tape.slots[reader.outs[0]].shape[1]
            if told is not None:
                layers.set(told, size, times * size)
        else:
            old = layers.reads(reader)
            layers.set(layers.inputs(reader), old, times * old)


def _widen(sites: Sites, layers: Layers, op: Op, width: int) -> None:
    if op.name != "linear":
        raise NoEdit(f"it narrows in a `{op.name}`: the width of that is not one number", where=_place(op))
    old = layers.width(op)
    callee = called(sites, op)
    made = built(callee) if callee is not None else None
    if made is not None and isinstance(made.node, cst.Call):
        numbers = by_arguments(made, old)
        own = {f.name.value for f in made.source.nodes(cst.FunctionDef)}
        if numbers and made.source.code(made.node.func) in own:
            for number in numbers:
                layers.set(number, old, width)
            return
    layers.set(layers.outputs(op), old, width, at_least=True)
    for reader in layers.next(op):
        if reader.name not in RESHAPING:
            layers.set(layers.inputs(reader), old, width, at_least=True)


def _place(op: Op) -> str:
    return f"{op.place.file}:{op.place.line}" if op.place else ""
