"""More latent units: in the heads, in the decoder's first layer, and where new examples are drawn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.layers import Layers
from whyvae.treat.literals import written
from whyvae.treat.noted import in_texts, noted
from whyvae.treat.operands import number
from whyvae.treat.program import backward, calls, loops
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import METHODS, decodings, drawn
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op


LATENTS = re.compile(
    r"latent|^z$|z_?(dims?|size)$|^(dims?|size)_?z$|^n_?z$|bottleneck|codes?_?(dims?|size)$|^n_?codes?$"
)


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    old, new = int(case.subject.lineage.latents), int(settings["latents"])
    if old >= new:
        raise NoEdit(f"there are {old} latent units already")
    try:
        return _at_the_layers(Sites(case), old, new)
    except NoEdit as why:
        sites = Sites(case)
        _at_the_setting(sites, old, new, why)
        return sites.result()


def _at_the_setting(sites: Sites, old: int, new: int, why: NoEdit) -> None:
    """The one setting of that value whose name says that it counts the latents, wherever it stands.

    Raises:
        NoEdit: `why`, if there is none, or there are several names.
    """
    literals, texts = noted(sites, LATENTS, old), in_texts(sites, LATENTS, old)
    if len({key for key, *_ in (*literals, *texts)}) != 1 or len(texts) > 1:
        raise why
    for _, spot in literals:
        spot.source.replace(spot.node, written(new))
    for _, spot, text in texts:
        spot.source.replace(spot.node, text.format(new))
    _draws(sites, old, new)


def _at_the_layers(sites: Sites, old: int, new: int) -> dict[str, str]:
    layers = Layers(sites)
    for head in _heads(layers):
        width = layers.width(head)
        if width % old:
            raise NoEdit("the heads make another number of values than there are latent units")
        layers.set(layers.outputs(head), width, new * width // old)
    for first in _first(layers):
        layers.set(layers.inputs(first), old, new)
    _draws(sites, old, new)
    return sites.result()


def _heads(layers: Layers) -> list[Op]:
    made = set(layers.subject.lineage.heads)
    ops = [op for op in layers.tape.ops if layers.deps.is_layer(op) and not made.isdisjoint(op.outs)]
    if not ops:
        raise NoEdit("the layers that make mu and sigma were not found")
    return ops


def _first(layers: Layers) -> list[Op]:
    """The decoder's layers that read z itself."""
    lineage, deps = layers.subject.lineage, layers.deps
    decoder = deps.descendants([lineage.z]) & deps.ancestors([lineage.output])
    ops = [op for op in layers.tape.ops if layers.deps.is_layer(op) and not decoder.isdisjoint(op.outs)]
    later = {o for op in ops for o in deps.descendants(op.outs)}
    return [op for op in ops if later.isdisjoint(r for r in op.reads if r not in deps.parametric)]


def _draws(sites: Sites, old: int, new: int) -> None:
    """`torch.randn(16, 8)` where new examples are drawn: its last number, if it is the number of latent units."""
    for spot in (*_noise(sites), *_drawn(sites)):
        call = spot.node
        last = (
            call.args[-1].value if isinstance(call, cst.Call) and call.args and call.args[-1].keyword is None else None
        )
        if isinstance(last, cst.Tuple) and last.elements:
            last = last.elements[-1].value
        if last is not None and number(last) == old and (len(call.args) > 1 or last is not call.args[-1].value):  # type: ignore[attr-defined]
            spot.source.replace(last, written(new))


def _noise(sites: Sites) -> Iterator[Spot]:
    """Calls that draw the noise of a step; where it comes from outside of the step, those in the loop around it."""
    lineage, tape = sites.subject.lineage, sites.subject.tape
    if lineage.noise_op >= 0 and (spot := sites.of(tape.ops[lineage.noise_op])) is not None:
        yield spot
    elif lineage.eps >= 0 and tape.slots[lineage.eps].external:
        at = backward(sites)
        for loop in loops(at.source, at.node):
            yield from (Spot(at.source, c) for c in calls(at.source, "randn", loop))


def _decoded(source: Source, call: cst.Call) -> bool:
    """`decoder(torch.randn(16, 8))`."""
    argument = source.parent(call)
    outer = source.parent(argument) if isinstance(argument, cst.Arg) else None
    return isinstance(outer, cst.Call) and dotted(outer.func).split(".")[-1] in METHODS


def _drawn(sites: Sites) -> Iterator[Spot]:
    """Calls that draw latents: those that were seen; where none was, those behind training, or in a sampling function."""
    seen = [s for d in decodings(sites) for op in drawn(d.decoded) if (s := sites.of(op)) is not None]
    if seen:
        yield from {id(s.node): s for s in seen}.values()
        return
    at = sites.subject.main.backward_at
    for source in sites.family:
        for call in (c for name in ("randn", "zeros", "normal") for c in calls(source, name)):
            function = source.enclosing(call, cst.FunctionDef)
            behind = at is not None and at.file == source.path and source.line(call) > at.line
            samples = function is not None and any(word in function.name.value for word in ("sample", "generate"))
            if samples or (function is None and behind) or _decoded(source, call):
                yield Spot(source, call)
