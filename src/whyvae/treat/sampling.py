"""Where the user's script makes new examples, as expressions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.watch.step import Decoded
from whyvae.watch.tape import Op, Place


@dataclass(frozen=True, eq=False)
class Decoding:
    """A call of the decoder on drawn latents. `latents`: what entered; `call`: the expression that decodes it."""

    decoded: Decoded
    call: Spot


def decodings(sites: Sites, place: Place | None = None) -> list[Decoding]:
    """The script's own ways to new examples, the last first, one for each expression; those of a line first."""
    found: dict[int, Decoding] = {}
    for decoded in reversed(sites.subject.decoded):
        op = first_op(decoded)
        spot = None if op is None else outermost(sites, op) or _beside_draw(sites, decoded, op)
        if spot is not None and id(spot.node) not in found:
            found[id(spot.node)] = Decoding(decoded, spot)
    every = list(found.values())
    return sorted(every, key=lambda d: place is None or d.call.source.line(d.call.node) != place.line)


def known_decodings(sites: Sites, snippet: str) -> list[Decoding]:
    """`decodings`, at least one.

    Raises:
        NoEdit: there is none; with `snippet`.
    """
    found = decodings(sites)
    if not found:
        raise NoEdit("no place was found where new examples are made", snippet)
    return found


def first_op(decoded: Decoded) -> Op | None:
    """The function that the latents entered."""
    return next((op for op in decoded.tape.ops if op.index == decoded.op), None)


def outermost(sites: Sites, op: Op) -> Spot | None:
    """`model.decode(z)` in the script or function that is no part of the model: the outermost call on the way to it
    that hands over something (a bare `main()` does not).
    """
    best = None
    for depth in range(len(op.frames)):
        spot = sites.of(op, depth)
        if spot is None or not isinstance(spot.node, cst.Call) or (depth > 0 and not _hands_over(spot)):
            break
        best = spot
        if not _in_method(spot):
            break
    return best


def _beside_draw(sites: Sites, decoded: Decoded, op: Op) -> Spot | None:
    """The call of the decoder in the very function that draws the latents, where the model is functions and no module."""
    draw = next(drawn(decoded), None)
    if draw is None:
        return None
    for depth, frame in enumerate(op.frames):
        if any(f.code is frame.code for f in draw.frames):
            spot = sites.of(op, depth)
            return spot if spot is not None and isinstance(spot.node, cst.Call) else None
    return None


def _hands_over(spot: Spot) -> bool:
    return isinstance(spot.node, cst.Call) and bool(spot.node.args)


def _in_method(spot: Spot) -> bool:
    """Inside `forward`, `decode` and the like of a module."""
    function = spot.source.enclosing(spot.node, cst.FunctionDef)
    inside = function is not None and isinstance(spot.source.enclosing(function, cst.ClassDef), cst.ClassDef)
    return inside and not any(n in function.name.value for n in ("sample", "generate", "snapshot"))


def drawn(decoded: Decoded) -> Iterator[Op]:
    """The random draws that the latents were made from, the last first."""
    made = {slot: op for op in decoded.tape.ops for slot in (*op.outs, *op.writes)}
    todo, seen = [decoded.slot], {decoded.slot}
    while todo:
        op = made.get(todo.pop(0))
        if op is None:
            continue
        if op.random:
            yield op
        todo += [r for r in op.reads if r not in seen]
        seen.update(op.reads)


def way(decoded: Decoded) -> list[Op]:
    """What was done to the latents before they were decoded, the last first."""
    made = {slot: op for op in decoded.tape.ops for slot in (*op.outs, *op.writes)}
    found: list[Op] = []
    slot = decoded.slot
    while (op := made.get(slot)) is not None and len(found) < 16:
        found.append(op)
        if not op.reads:
            break
        slot = op.reads[0]
    return found


def module_of(call: Spot) -> str:
    """`model` of `model.decode(z)`, `decoder` of `decoder(z)`.

    Raises:
        NoEdit: it has no name there.
    """
    assert isinstance(call.node, cst.Call)  # noqa: S101 - a decoding is a call
    name = dotted(call.node.func)
    if not name:
        raise NoEdit("the decoder has no name where new examples are made", where=call.where)
    owner, _, method = name.rpartition(".")
    return owner if owner and method in METHODS else name


METHODS = {"decode", "decoder", "forward", "sample", "generate", "gen", "dec", "decode_latent", "reconstruct"}
