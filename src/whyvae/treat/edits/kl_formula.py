"""The KL of the posterior that is sampled, KL(N(mu, sigma^2) || N(0, 1)), in place of what stands there, in the user's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst
import torch
from torch import Tensor

from whyvae.audit.covariance import REVERSED
from whyvae.audit.cut import gradient, head_values, injected, posterior
from whyvae.audit.mistaken import mistaken
from whyvae.audit.regulariser import EXACT
from whyvae.audit.solve import least_squares
from whyvae.probes.objective import Objective
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.treat.terms import Term, Terms, plain
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op

if TYPE_CHECKING:
    from whyvae.treat.case import Case

TWICE = {  # twice the KL of one unit, its terms in the order people write them
    "logvar": ("{m}**2", "{s}.exp()", "- {s}", "- 1"),
    "std": ("{m}**2", "{s}**2", "- 2 * {s}.log()", "- 1"),
    "logstd": ("{m}**2", "(2 * {s}).exp()", "- 2 * {s}", "- 1"),
    "var": ("{m}**2", "{s}", "- {s}.log()", "- 1"),
}
NEGATIVE = {
    "logvar": "1 + {s} - {m}**2 - {s}.exp()",
    "std": "1 + 2 * {s}.log() - {m}**2 - {s}**2",
    "logstd": "1 + 2 * {s} - {m}**2 - (2 * {s}).exp()",
    "var": "1 + {s}.log() - {m}**2 - {s}",
}
TWICE_FROM = 1.4  # between the 1 of a KL and the 2 of `1 + logvar - ...` without its half
NEAR = 0.05  # of a coefficient that a formula with one wrong term still has right
OWN_PRIOR = "kl = kl_divergence(q, p).sum(1)  # q: the posterior, p: the prior of each example\n"
SNIPPET = "kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)  # per example; logvar = log(sigma**2)\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    terms = Terms(sites)
    if _exchanged(sites, terms):
        return sites.result()
    objective = case.get(Objective)
    if objective is not None and objective.regulariser.conditional:
        raise NoEdit("each example has a prior of its own", OWN_PRIOR, terms.spot(terms.kl[0]).where)
    if len(terms.kl) != 1:
        raise NoEdit("the KL is made of several parts that are added apart", SNIPPET, terms.spot(terms.kl[0]).where)
    term = terms.kl[0]
    try:
        _replace(sites, terms, term)
    except NoEdit as no:
        if not (_squared_first(sites, terms) or _whole(sites, terms, term)):
            raise NoEdit(str(no), SNIPPET, terms.spot(term).where) from no
    return sites.result()


def _exchanged(sites: Sites, terms: Terms) -> bool:
    """`kl_divergence(p, q)` -> `kl_divergence(q, p)`, where the audit says that it is the wrong way round."""
    objective = sites.case.get(Objective)
    if objective is None or not objective.regulariser.mistake.startswith(REVERSED):
        return False
    for op in terms.tape.ops:
        spot = None if terms.kl_side.isdisjoint(op.outs) else sites.of(op)
        call = None if spot is None else spot.node
        if not isinstance(call, cst.Call) or dotted(call.func).split(".")[-1] != "kl_divergence":
            continue
        if spot is not None and len(call.args) == 2 and all(a.keyword is None for a in call.args):
            one, other = (a.value for a in call.args)
            texts = spot.source.code(one), spot.source.code(other)
            spot.source.replace(one, texts[1])
            spot.source.replace(other, texts[0])
            return True
    return False


def _squared_first(sites: Sites, terms: Terms) -> bool:
    """`mu.sum(1).pow(2)` -> `mu.pow(2).sum(1)`, where the square of a sum over the units stands for the sum of squares."""
    found = []
    for op in terms.tape.ops:
        position = terms.deps.producer.get(op.reads[0]) if op.reads else None
        summed = None if position is None else terms.tape.ops[position]
        squares = plain(op.name) == "square" or (plain(op.name) == "pow" and 2 in op.args)
        if squares and terms.kl_side.issuperset(op.outs) and summed is not None and plain(summed.name) == "sum":
            found.append((sites.of(op), sites.of(summed)))
    if len(found) != 1 or None in found[0]:
        return False
    square, total = found[0]
    assert square is not None  # noqa: S101 - just looked
    assert total is not None  # noqa: S101
    node, inner = square.node, total.node
    if not isinstance(inner, cst.Call) or not isinstance(inner.func, cst.Attribute):
        return False
    base, rest = square.source.code(inner.func.value), square.source.code(inner)[len(square.source.code(inner.func)) :]
    method = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.value is inner
    power = isinstance(node, cst.BinaryOperation) and node.left is inner
    if not (method or power):
        return False
    squared = f"{base}.pow(2)" if method else f"({base} ** 2)"
    square.source.replace(node, f"{squared}.sum{rest}")
    return True


def _whole(sites: Sites, terms: Terms, term: Term) -> bool:
    """`0.5 * (var.sum(1) + mu.sum(1) - ...)` -> `0.5 * (var + mu**2 - ...).sum(-1)`: all of a KL whose parts were summed apart."""
    units = terms.tape.slots[terms.lineage.z].shape
    inner = _innermost(terms, term)
    for op in reversed(terms.chain(term.slot, terms.kl_side)):  # `- 4` behind them is of the old formula
        if plain(op.name) not in {"add", "sub", "rsub"} or sites.of(op) is None:
            break
        inner = op.outs[0]
    position, spot = terms.deps.producer.get(inner), sites.made_at(inner)
    if position is None or spot is None or terms.tape.slots[inner].shape not in {units[:-1], ()}:
        return False
    op = terms.tape.ops[position]
    named = _named(sites, terms, op)
    if named is None:
        return False
    sign, size = _form(terms, inner)
    reduced = _reduced(terms, inner, size)
    if reduced is None:
        return False
    summed, twice = reduced
    text = f"({_written(*named, sign=sign)}){summed}"
    spot.source.replace(spot.node, text if twice else f"0.5 * {text}")
    return True


def _reduced(terms: Terms, core: int, size: float) -> tuple[str, bool] | None:
    """(how it is summed, is it twice the KL?) by the size of its coefficients; None where nothing fits."""
    batch, count = terms.subject.batch, terms.tape.slots[terms.lineage.z].shape[-1]
    ways = {1.0: ".sum(-1)", float(count): ".mean(-1)"}
    if not terms.tape.slots[core].shape:
        ways = {1.0: ".sum()", float(batch): ".sum(-1).mean()", float(batch * count): ".mean()"}
    fits = [
        (summed, half == 2)
        for divided, summed in ways.items()
        for half in (1, 2)
        if abs(size * divided / half - 1) < NEAR
    ]
    return fits[0] if len(fits) == 1 else None


def _named(sites: Sites, terms: Terms, op: Op) -> tuple[str, str, str] | None:
    """(what sigma's tensor holds, mu's name, its name) in the function that called `op`."""
    names = sites.names(op)
    roles = terms.roles(list(names))
    spread = next((kind for kind in ("logvar", "logstd", "std", "var") if kind in roles), None)
    return None if "mu" not in roles or spread is None else (spread, names[roles["mu"]], names[roles[spread]])


def _replace(sites: Sites, terms: Terms, term: Term) -> None:
    core, spot, op = _core(sites, terms, term)
    named = _named(sites, terms, op)
    if named is None:
        raise NoEdit("mu and sigma have no names where the KL is computed")
    sign, size = _form(terms, core)
    twice = size > TWICE_FROM
    written = _written(*named, sign=sign)
    summed = _summed(terms, core)
    text = f"({written}){summed}" if summed else written
    if not twice:
        text = f"0.5 * {text}" if summed else f"0.5 * ({text})"
    spot.source.replace(spot.node, text)


def _summed(terms: Terms, core: int) -> str:
    """How a function of the user's own (`torch.autograd.Function`) adds up what it gives back: over units, or over all;
    and the mean over the batch, where it was taken too early.
    """
    units, shape = terms.tape.slots[terms.lineage.z].shape, terms.tape.slots[core].shape
    if _averaged(terms, core):
        return ".mean(0)"
    return "" if shape == units else ".sum(-1)" if shape else ".sum()"


def _averaged(terms: Terms, core: int) -> bool:
    """Has the core one number for each unit, of the whole batch?"""
    units, shape = terms.tape.slots[terms.lineage.z].shape, terms.tape.slots[core].shape
    return len(units) > 1 and shape == units[1:] and shape != units[:-1]


def _written(spread: str, mu: str, sigma: str, *, sign: int) -> str:
    if sign < 0:
        return NEGATIVE[spread].format(m=mu, s=sigma)
    first, second, *rest = (part.format(m=mu, s=sigma) for part in TWICE[spread])
    return " ".join([first, "+", second, *rest])


def _core(sites: Sites, terms: Terms, term: Term) -> tuple[int, Spot, Op]:
    """(slot, its expression, its function): the last tensor on the way to the term with a number for each unit."""
    slot, shape = _innermost(terms, term), terms.tape.slots[terms.lineage.z].shape
    position = terms.deps.producer.get(slot)
    spot = sites.made_at(slot)
    made = None if position is None else terms.tape.ops[position]
    own = made is not None and made.name == "apply" and terms.tape.slots[slot].shape in {shape[:-1], ()}
    known = own or terms.tape.slots[slot].shape == shape or _averaged(terms, slot)
    if made is None or spot is None or not known:
        raise NoEdit("the terms of the KL are not written as one sum over the latent units")
    return slot, spot, made


def _innermost(terms: Terms, term: Term) -> int:
    """The slot behind all that only scales, shifts or reduces the term."""
    slot = term.slot
    for op in terms.chain(term.slot, terms.kl_side):
        slot = next(r for r in op.reads if r in terms.kl_side)
    return slot


def _form(terms: Terms, core: int) -> tuple[int, float]:
    """How the core must be written: with which sign it enters the loss, and how many times the KL it is (1 or 2, as a rule)."""
    lineage, replay = terms.lineage, terms.subject.replay
    try:
        held = replay.run([core])[core].detach().clone().requires_grad_()
        loss = replay.run(list(terms.tape.roots), feed={core: held})
        (slope,) = torch.autograd.grad(torch.stack([v.sum() for v in loss.values()]).sum(), held)
        heads = [v.requires_grad_() for v in injected(head_values(lineage, replay), 1.0)]
        feed = dict(zip(lineage.heads, heads, strict=True))
        drawn = replay.run([core, lineage.z], feed=feed, attached=True)
        value, z = drawn[core], drawn[lineage.z]
        mu, sigma = posterior(lineage, replay, heads)
    except (ReplayFailed, RuntimeError) as failed:
        raise NoEdit("the KL could not be computed again") from failed
    fitted, rest = _coefficients(gradient(value.sum(), heads), heads, mu, sigma, z)
    if float(slope.abs().max()) == 0:
        raise NoEdit("the KL has the weight 0: its formula is another matter")
    sign = 1 if float(slope.mean()) > 0 else -1
    c = fitted * sign
    if rest < EXACT and bool(((c[:3] - c[0]).abs() < EXACT * c[0]).all()) and float(c[3].abs()) < EXACT * float(c[0]):
        raise NoEdit("it says so already")
    if _averaged(terms, core):
        return sign, terms.subject.batch * mistaken(mu, sigma, heads, gradient(value.sum(), heads))[1]
    return sign, _typical(fitted)


def _coefficients(wanted: Tensor, heads: list[Tensor], mu: Tensor, sigma: Tensor, z: Tensor) -> tuple[Tensor, float]:
    """(Weights of mu^2/2, sigma^2/2, -log sigma and mu in the gradient `wanted` at the heads, what they leave of it); of a
    log q - log p at the sample that of z^2/2 stands for the first two.
    """
    log_sigma = -sigma.abs().log().sum()
    parts = ((mu**2).sum() / 2, (sigma**2).sum() / 2, log_sigma, mu.sum())
    at_sample = ((z**2).sum() / 2, log_sigma)
    four, two = (torch.stack([gradient(part, heads) for part in basis], 1) for basis in (parts, at_sample))
    fitted, rest = least_squares(two, wanted)
    if rest < EXACT:
        return torch.stack([fitted[0], *fitted, torch.zeros_like(fitted[0])]), rest
    return least_squares(four, wanted)


def _typical(fitted: Tensor) -> float:
    """The usual size of the coefficients that are there: 2 where `1 + logvar - ...` is written, 1 with its 0.5 inside."""
    sizes = fitted.abs()
    return float(sizes[sizes > 0.2 * sizes.max()].median())
