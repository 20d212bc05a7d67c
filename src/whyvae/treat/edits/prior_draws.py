"""New examples are decoded from draws of the prior, N(0, 1), one for each example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.edits.noise import standard
from whyvae.treat.operands import number
from whyvae.treat.program import built, calls
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import Decoding, drawn, known_decodings, way
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.treat.terms import plain
from whyvae.watch.step import Decoded
from whyvae.watch.tape import Op

if TYPE_CHECKING:
    from whyvae.treat.case import Case

STANDARD = {"randn", "randn_like"}
MOVING = {"add", "sub", "mul", "div"}
SNIPPET = "z = torch.randn(16, latents)  # one row for each new example\nimages = decoder(z)\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    found = known_decodings(sites, SNIPPET)
    mended = [_mended(sites, d) for d in found]
    if not any(mended) and not _numpy(sites, found[0]):
        raise NoEdit("how the latents are drawn was not understood", SNIPPET, found[0].call.where)
    return sites.result()


def _mended(sites: Sites, decoding: Decoding) -> bool:
    """Draws of torch: moved or scaled, another distribution, one draw repeated."""
    if _unmoved(sites, decoding.decoded):
        return True
    done = False
    for op in drawn(decoding.decoded):
        done |= standard(sites, op, decoding.decoded.tape) or _of_another_normal(sites, op)
    for op in way(decoding.decoded):
        spot = sites.of(op)
        if spot is not None:
            done |= _repeated(op, spot)
    return done


def _unmoved(sites: Sites, decoded: Decoded) -> bool:
    """`posterior_std * eps`, of eps drawn from N(0, 1) -> `eps`: tensors move or scale the draw."""
    draws = list(drawn(decoded))
    if len(draws) != 1 or draws[0].name not in STANDARD:
        return False
    last, slot = None, draws[0].outs[0]
    for op in decoded.tape.ops:
        if slot in op.reads and op.outs and slot != decoded.slot:
            if plain(op.name) not in MOVING:
                return False
            last, slot = op, op.outs[0]
    moved = sites.of(last) if last is not None and slot == decoded.slot else None
    plainly = _named(sites, draws[0], moved) if moved is not None else None
    if moved is None or plainly is None:
        return False
    moved.source.replace(moved.node, plainly)
    return True


def _named(sites: Sites, draw: Op, moved: Spot) -> str | None:
    """What stands for `draw` at `moved`: its own text there, or the name it was given in this function."""
    spot = sites.of(draw)
    source = moved.source
    if spot is None or spot.source is not source:
        return None
    if source.inside(spot.node, moved.node):
        return spot.code
    statement = source.statement(spot.node)
    if not isinstance(statement, cst.Assign) or statement.value is not spot.node or len(statement.targets) > 1:
        return None
    same = source.enclosing(spot.node, cst.FunctionDef) is source.enclosing(moved.node, cst.FunctionDef)
    return dotted(statement.targets[0].target) or None if same else None


def _of_another_normal(sites: Sites, op: Op) -> bool:
    """`Normal(mu.mean(0), sigma.mean(0)).sample(...)` -> `Normal(torch.zeros_like(mu.mean(0)), torch.ones_like(sigma.mean(0)))`."""
    spot = sites.of(op)
    method = spot.node.func if spot is not None and isinstance(spot.node, cst.Call) else None
    if spot is None or not isinstance(method, cst.Attribute) or method.attr.value not in {"sample", "rsample"}:
        return False
    owner = Spot(spot.source, method.value)
    made = owner if isinstance(owner.node, cst.Call) else built(owner)
    if made is None or not isinstance(made.node, cst.Call) or dotted(made.node.func).split(".")[-1] != "Normal":
        return False
    done = False
    for argument, right in _moments(made.node):
        value = number(argument)
        if value != right:
            like = f"torch.{'ones' if right else 'zeros'}_like({made.source.code(argument)})"
            made.source.replace(argument, like if value is None else str(right))
            done = True
    return done


def _moments(call: cst.Call) -> Iterator[tuple[cst.BaseExpression, float]]:
    """`loc` and `scale` of a call, by name or place, and what they are of the prior."""
    for position, (key, right) in enumerate((("loc", 0.0), ("scale", 1.0))):
        for i, argument in enumerate(call.args):
            if argument.keyword.value == key if argument.keyword is not None else i == position:
                yield argument.value, right


def _repeated(op: Op, spot: Spot) -> bool:
    """`torch.randn(8).repeat(16, 1)` -> `torch.randn(16, 8)`."""
    node = spot.node
    if (
        op.name not in {"repeat", "expand", "tile"}
        or not isinstance(node, cst.Call)
        or not isinstance(node.func, cst.Attribute)
    ):
        return False
    inner = node.func.value
    if (
        not isinstance(inner, cst.Call)
        or dotted(inner.func).split(".")[-1] != "randn"
        or not node.args
        or not inner.args
    ):
        return False
    rows, units = node.args[0].value, inner.args[-1].value
    text = f"{spot.source.code(inner.func)}({spot.source.code(rows)}, {spot.source.code(units)})"
    spot.source.replace(node, text)
    return True


def _numpy(sites: Sites, decoding: Decoding) -> bool:
    """`rng.normal(0.0, 5.0, size=...)`, `rng.uniform(...)`: numpy's draws where the latents are made."""
    source, scope = decoding.call.source, decoding.call.source.enclosing(decoding.call.node, cst.FunctionDef)
    below = source.line(decoding.call.node)
    near = sorted((c for n in ("normal", "uniform", "rand", "random") for c in calls(source, n)
                   if source.enclosing(c, cst.FunctionDef) is scope and source.line(c) <= below),
                  key=lambda c: -source.line(c))  # fmt: skip
    return any(_numpys(source, call) for call in near[:1])


def _numpys(source: Any, call: cst.Call) -> bool:
    if not isinstance(call.func, cst.Attribute):
        return False
    name, changed = call.func.attr.value, False
    if name in {"uniform", "random"}:
        source.replace(call.func.attr, "normal" if name == "uniform" else "standard_normal")
        changed = True
    elif name == "rand":
        source.replace(call.func.attr, "randn")
        changed = True
    for argument, right in _moments(call) if name in {"normal", "uniform"} else ():
        value = number(argument)
        if value is not None and value != right:
            source.replace(argument, str(right))
            changed = True
    return changed
