"""What cuts a gradient is taken out: `.detach()`, `.item()`, `.data`, `no_grad`, `.sample()`; a KL weight of 0 becomes 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.edits.kl_weight import found_weight
from whyvae.treat.literals import literal, the_number
from whyvae.treat.program import calls, unpacked
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import PRODUCT, SUM, dotted, tightness
from whyvae.treat.terms import Terms, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case
    from whyvae.treat.source import Source
    from whyvae.watch.tape import Op

CUTTING = {"detach", "detach_"}
DRAWN = "normal_affine"  # torch.normal(mean, std)
NUMBERS = {"item", "tolist", "numpy"}
LEAVING = {*CUTTING, *NUMBERS, "cpu"}
DEEPEST = 4
SNIPPETS = {
    "kl": "loss = reconstruction + kl  # a tensor: no .item(), .detach(), .data or no_grad on its way\n",
    "z": "z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)  # or q.rsample(); not under no_grad\n",
}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["what"]`: "z" (the way from the encoder to the decoder) or "kl"."""
    sites = Sites(case)
    what = str(settings["what"])
    if not any(
        [*(_attach(sites, op) for op in _cuts(sites, what)), what == "kl" and (_numbers(sites) or _weight(sites))]
    ):
        where = case.subject.main.backward_at
        raise NoEdit(
            "what cuts the gradient was not found", SNIPPETS[what], f"{where.file}:{where.line}" if where else ""
        )
    return sites.result()


def _cuts(sites: Sites, what: str) -> list[Op]:
    """The functions on the way that hand on no gradient."""
    subject = sites.subject
    deps, lineage, slots = subject.deps, subject.lineage, subject.tape.slots
    if what == "z":
        wanted = deps.ancestors([lineage.output])
    else:
        wanted = deps.ancestors(subject.tape.roots, stop={lineage.output})
    start = deps.encoded & wanted
    cutting = []
    for op in subject.tape.ops:
        if start.isdisjoint(op.reads) or wanted.isdisjoint(op.outs):
            continue
        before = any(slots[r].requires_grad for r in op.reads if r in start)
        if (before and not any(slots[o].requires_grad for o in op.outs)) or op.name in {*CUTTING, DRAWN}:
            cutting.append(op)
    return cutting


def _attach(sites: Sites, op: Op) -> bool:
    """Takes out what cut the gradient at one function."""
    spot = sites.of(op)
    if spot is None:
        return False
    node, source = spot.node, spot.source
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        name = node.func.attr.value
        if dotted(node.func) == "torch.normal":
            return _reparametrised(source, node)
        if name in CUTTING and _drawn(node.func.value):
            return False  # gone with the draw it stands behind
        if name in CUTTING:
            source.replace(node, source.code(node.func.value))
            return True
        if name in {"sample", "sample_n"}:
            source.replace(node.func.attr, "rsample")
            return True
    if isinstance(node, cst.Attribute) and node.attr.value == "data":
        source.replace(node, source.code(node.value))
        return True
    return not op.grad and any(_with_gradient(source, s.node, sites) for s in _standing(sites, op))


def _drawn(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and dotted(node.func) == "torch.normal"


def _reparametrised(source: Source, draw: cst.Call) -> bool:
    """`torch.normal(mu, sigma)`, and what cuts it off behind that, -> `mu + sigma * torch.randn_like(sigma)`."""
    given = {
        a.keyword.value if a.keyword else name: a.value for name, a in zip(("mean", "std"), draw.args, strict=False)
    }
    if set(given) != {"mean", "std"}:
        return False
    whole: cst.CSTNode = draw
    above = source.parent(draw)
    if isinstance(above, cst.Attribute) and above.attr.value in CUTTING:
        whole = source.parent(above) or draw
    mean, std = source.code(given["mean"]), source.code(given["std"])
    shift = mean if tightness(given["mean"]) >= SUM else f"({mean})"
    factor = std if tightness(given["std"]) >= PRODUCT else f"({std})"
    source.replace(whole, f"{shift} + {factor} * torch.randn_like({std})")
    return True


def _standing(sites: Sites, op: Op) -> list[Spot]:
    """The expression that called a function, and those that called what it stands in."""
    return [s for depth in range(len(op.frames)) if (s := sites.of(op, depth)) is not None]


def _with_gradient(source: Source, node: cst.CSTNode, sites: Sites) -> bool:
    """Takes `@torch.no_grad()` away, or makes `with torch.no_grad()` one with gradients."""
    for above in source.above(node):
        if isinstance(above, cst.FunctionDef):
            for decorator in above.decorators:
                called = decorator.decorator
                name = dotted(called.func if isinstance(called, cst.Call) else called)
                if name.split(".")[-1] in {"no_grad", "inference_mode"}:
                    source.remove_line(decorator)
                    return True
            return False
        if isinstance(above, cst.With):
            for item in above.items:
                call = item.item
                if isinstance(call, cst.Call) and dotted(call.func).split(".")[-1] in {"no_grad", "inference_mode"}:
                    source.replace(
                        call.func,
                        dotted(call.func).replace("no_grad", "enable_grad").replace("inference_mode", "enable_grad"),
                    )
                    return True
    return False


def _numbers(sites: Sites) -> bool:
    """`loss = reconstruction + kl.item()`: the number becomes the tensor again, wherever it was made one."""
    terms, done = Terms(sites), False
    for op in sites.subject.tape.ops:
        if plain(op.name) not in {"add", "sub", "mul", "div", "rsub"} or terms.reconstruction_side.isdisjoint(op.outs):
            continue
        spot = sites.of(op)
        found = list(_leaving(spot)) if spot is not None else []
        for value, operand in [] if found else sites.operands(op):
            found += _left_before(operand, 0) if isinstance(value, float) else []
        for source, call, inner in found:
            source.replace(call, source.code(inner))
        done |= bool(found)
    return done


def _leaving(spot: Spot) -> Iterator[tuple[Source, cst.Call, cst.CSTNode]]:
    """(file, call, what it makes a number of): `kl.item()`, `float(kl)`."""
    source = spot.source
    for call in (c for name in sorted(NUMBERS) for c in calls(source, name, spot.node)):
        if isinstance(call.func, cst.Attribute):
            yield source, call, _tensor(call.func.value)
    for call in calls(source, "float", spot.node):
        if dotted(call.func) and call.args and the_number(Spot(source, call.args[0].value)) is None:
            yield source, call, _tensor(call.args[0].value)


def _tensor(node: cst.CSTNode) -> cst.CSTNode:
    """`kl` of `kl.detach().cpu()`."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value in LEAVING:
        node = node.func.value
    return node


def _left_before(spot: Spot, depth: int) -> list[tuple[Source, cst.Call, cst.CSTNode]]:
    """The same in what the names and items of an expression stand for: `terms["kl"]`, made by `{"kl": kl.item()}`."""
    if depth > DEEPEST:
        return []
    found = list(_leaving(spot))
    if found:
        return found
    source = spot.source
    for node in source.nodes((cst.Name, cst.Subscript), spot.node):
        here = Spot(source, node)
        scope, every = source.enclosing(node, cst.FunctionDef), list(bindings(here))
        values = [v for v in every if v.source is source and source.enclosing(v.node, cst.FunctionDef) is scope]
        if not values and isinstance(node, cst.Subscript) and len(every) == 1:  # the dictionary comes from a function
            values = every
        for value in (*values, *(unpacked(here) if isinstance(node, cst.Name) else ())):
            found += [f for f in _left_before(value, depth + 1) if all(f[1] is not other[1] for other in found)]
    return found


def _weight(sites: Sites) -> bool:
    """A weight that is 0: the literal becomes 1, a whole-number division in its schedule a true one."""
    terms = Terms(sites)
    for term in terms.kl_or_none:
        weight = found_weight(sites, terms, term)
        if weight is None or weight[2] != 0:
            continue
        spot = weight[0]
        at = literal(spot, 0.0)
        if at is not None:
            at.source.replace(at.node, "1.0")
            return True
        for value in (spot, *bindings(spot)):
            for division in value.source.nodes(cst.FloorDivide, value.node):
                value.source.replace_token(division, "/")
                return True
    return False
