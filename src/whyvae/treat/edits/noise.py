"""The noise of the reparametrisation becomes N(0, 1), drawn for each number, and scaled by the standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst
import torch

from whyvae.probes.latents import LatentUsage
from whyvae.probes.noise import Noise
from whyvae.probes.objective import Objective
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.treat.terms import Terms, plain
from whyvae.watch.tape import Op, Ref, Tape

if TYPE_CHECKING:
    from whyvae.treat.case import Case

NORMAL = {"rand": "randn", "rand_like": "randn_like", "uniform_": "normal_"}
NEAR = 1e-3  # of a number that is read off a gradient
SNIPPET = "eps = torch.randn_like(mu)\nz = mu + torch.exp(0.5 * logvar) * eps  # logvar as in the KL\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if _drawn_once(case, sites):
        return sites.result()
    lineage = case.subject.lineage
    op = case.subject.tape.ops[lineage.noise_op] if lineage.noise_op >= 0 else None
    spot = sites.of(op) if op is not None else None
    if op is None or spot is None or not isinstance(spot.node, cst.Call):
        raise NoEdit("the noise is not drawn by a function of torch in your code", SNIPPET)
    if not (
        _without_factor(case, sites)
        or standard(sites, op, case.subject.tape)
        or _own_for_each(sites, op, spot)
        or (_by_variance(case) and _scale(sites))
        or (_by_any_number(case) and _bare_scale(sites))
    ):
        again = "the stream of random numbers is seeded again in each step: seed it once, before the first"
        noise = case.get(Noise)
        unusual = again if noise is not None and noise.repeated else "the noise is drawn in an unusual way"
        raise NoEdit(unusual, SNIPPET, spot.where)
    return sites.result()


def _drawn_once(case: Case, sites: Sites) -> bool:
    """Numbers that were drawn before the first step (a slice of them) become a draw of mu's shape."""
    noise, subject = case.get(Noise), case.subject
    if noise is None or not noise.repeated or subject.lineage.noise_op >= 0:
        return False
    eps = subject.lineage.eps
    for op in subject.tape.ops:
        if eps not in op.reads:
            continue
        spot = sites.of(op) if op.name == "__getitem__" else sites.operand(op, eps)
        name = _of_its_shape(sites, op, spot) if spot is not None else None
        if spot is not None and name is not None:
            spot.source.replace(spot.node, f"torch.randn_like({name})")
            return True
    return False


def _of_its_shape(sites: Sites, op: Op, spot: Spot) -> str | None:
    """The name, at `op`, of a tensor of z's shape that has its value before `spot`."""
    slots, lineage = sites.subject.tape.slots, sites.subject.lineage
    names = sites.names(op)
    full = [s for s in (*lineage.chain, *lineage.heads, *names) if slots[s].shape == slots[lineage.z].shape]
    known = [names[s] for s in full if s in names and s not in {lineage.z, lineage.eps}]
    later = _bound_later(sites, spot)
    return next((n for n in known if n not in later), None)


def _by_variance(case: Case) -> bool:
    """Does the audit say that the noise is multiplied by the variance?"""
    objective = case.get(Objective)
    return objective is not None and "multiplied by the variance" in objective.sampling_mistake


def _by_any_number(case: Case) -> bool:
    """Is the noise multiplied by something that can be negative?"""
    usage = case.get(LatentUsage)
    return usage is not None and usage.negative_sigma > 0


def _bare_scale(sites: Sites) -> bool:
    """`logvar` times noise -> `(0.5 * logvar).exp()`, where the KL takes the exponential of that very tensor."""
    subject = sites.subject
    lineage, deps = subject.lineage, subject.deps
    noise, way = deps.descendants([lineage.eps]), deps.ancestors([lineage.z])
    raised = {r for op in subject.tape.ops if plain(op.name) == "exp" for r in op.reads}
    for op in subject.tape.ops:
        scales = [r for r in op.reads if r not in noise and r in raised]
        if (
            plain(op.name) not in {"mul", "addcmul"}
            or way.isdisjoint(op.outs)
            or noise.isdisjoint(op.reads)
            or not scales
        ):
            continue
        spot = sites.operand(op, scales[0])
        if spot is not None:
            spot.source.replace(spot.node, f"(0.5 * {spot.closed}).exp()")
            return True
    return False


def standard(sites: Sites, op: Op, tape: Tape) -> bool:
    """Another distribution, and a shift or a factor behind the draw (`2 * torch.rand(4) - 1`), become `torch.randn(4)`."""
    spot = sites.of(op)
    call = spot.node if spot is not None else None
    if spot is None or not isinstance(call, cst.Call):
        return False
    name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
    wrong = op.name in NORMAL and spot.source.code(name) == op.name
    outer = _moved(sites, op, tape)
    if not wrong and outer is None:
        return False
    start, end = spot.source.offsets(name)
    begin, stop = spot.source.offsets(call)
    behind = "(0, 1)" if wrong and op.name == "uniform_" else spot.source.text[end:stop]
    text = spot.source.text[begin:start] + (NORMAL[op.name] if wrong else op.name) + behind
    place = outer or spot
    place.source.replace(place.node, text)
    return True


def _moved(sites: Sites, op: Op, tape: Tape) -> Spot | None:
    """The outermost expression that only shifts or scales a draw by numbers; None where nothing does."""
    found, slot = None, (*op.outs, *op.writes)[-1]
    for reader in tape.ops:
        if slot not in reader.reads or reader is op:
            continue
        if plain(reader.name) not in {"add", "sub", "rsub", "mul", "div"} or len(reader.reads) != 1 or not reader.outs:
            break
        found, slot = sites.of(reader) or found, reader.outs[0]
    return found


def _own_for_each(sites: Sites, op: Op, spot: Spot) -> bool:
    """Noise of a smaller shape than mu, which is broadcast: as much of it as there is of mu."""
    subject = sites.subject
    slots, lineage = subject.tape.slots, subject.lineage
    if slots[lineage.eps].numel >= slots[lineage.z].numel or op.name not in {"randn", "randn_like"}:
        return False
    name = _of_its_shape(sites, op, spot)
    root, _, called = dotted(spot.node.func).rpartition(".") if isinstance(spot.node, cst.Call) else ("", "", "")
    if name is None:
        return False
    if called in {"randn", "randn_like"}:
        spot.source.replace(spot.node, f"{root + '.' if root else ''}randn_like({name})")
    else:  # `Normal(0, 1).sample(mu.shape[:-1]).unsqueeze(-1)`
        spot.source.replace(_whole_chain(spot), f"torch.randn_like({name})")
    return True


def _whole_chain(spot: Spot) -> cst.CSTNode:
    """The call with the methods that are called on what it gives."""
    node, source = spot.node, spot.source
    while isinstance(method := source.parent(node), cst.Attribute) and method.value is node:
        outer = source.parent(method)
        if not isinstance(outer, cst.Call) or outer.func is not method:
            break
        node = outer
    return node


def _bound_later(sites: Sites, spot: Spot) -> set[str]:
    """Names that get their value behind the noise, in its function: not to be used for it."""
    source = spot.source
    function, line = source.enclosing(spot.node, cst.FunctionDef), source.line(spot.node)
    assigned: dict[str, int] = {}
    for assign in source.nodes(cst.Assign):
        if source.enclosing(assign, cst.FunctionDef) is function:
            for target in assign.targets:
                found = target.target
                for name in found.elements if isinstance(found, cst.Tuple) else [found]:
                    text = dotted(getattr(name, "value", name) if isinstance(name, cst.Element) else name)
                    assigned[text] = min(assigned.get(text, 10**9), source.line(assign))
    return {name for name, at in assigned.items() if at >= line}


def _scale(sites: Sites) -> bool:
    """`exp(logvar)` times noise -> `exp(0.5 * logvar)`, where the KL takes it for a log-variance."""
    terms, subject = Terms(sites), sites.subject
    lineage, deps = subject.lineage, subject.deps
    way = deps.ancestors([lineage.z], stop=set(lineage.heads))
    for op in subject.tape.ops:
        if plain(op.name) != "exp" or way.isdisjoint(op.outs) or not op.reads:
            continue
        spot = sites.of(op)
        inner = next((s for value, s in sites.operands(op) if isinstance(value, Ref)), None)
        if spot is None or inner is None or not _is_sigma(terms, op.outs[0]):
            continue
        spot.source.replace(inner.node, f"0.5 * {inner.closed}")
        return True
    return False


_CURVED = {"exp", "sqrt", "softplus", "pow", "exp2"}  # what makes a standard deviation of a head


def _without_factor(case: Case, sites: Sites) -> bool:
    """The number that the noise is multiplied by, beside the standard deviation that the KL knows, is left out."""
    objective = case.get(Objective)
    factor = None if objective is None else objective.noise_factor
    if factor is None:
        return False
    subject = sites.subject
    lineage, deps = subject.lineage, subject.deps
    way = deps.ancestors([lineage.z], stop={*lineage.heads, lineage.eps})
    curved = [op for op in subject.tape.ops if plain(op.name) in _CURVED and not way.isdisjoint(op.outs)]
    before = deps.ancestors([r for op in curved for r in op.reads])
    for op in subject.tape.ops:
        wanted = {"mul": factor, "div": 1 / factor}.get(plain(op.name))
        numbers = [a for a in op.args if isinstance(a, int | float)]
        if wanted is None or way.isdisjoint(op.outs) or not before.isdisjoint(op.outs) or len(numbers) != 1:
            continue
        spot = sites.of(op)
        inner = next((s for value, s in sites.operands(op) if isinstance(value, Ref)), None)
        if spot is None or inner is None or abs(numbers[0] / wanted - 1) > NEAR:
            continue
        spot.source.replace(spot.node, inner.source.code(inner.node))
        return True
    return False


def _is_sigma(terms: Terms, slot: int) -> bool:
    """Is this tensor what the noise is multiplied by?"""
    at, _, sigma = terms.posterior
    with torch.no_grad():
        value = terms.subject.replay.run([slot], feed=at)[slot]
    return value.numel() == sigma.numel() and bool(torch.allclose(value.reshape(sigma.shape), sigma, rtol=1e-5))
