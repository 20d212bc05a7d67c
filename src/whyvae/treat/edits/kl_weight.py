"""Multiplies the KL term by a factor: in the number that already weighs it where there is one, else where it is added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.literals import literal, written
from whyvae.treat.operands import number
from whyvae.treat.program import returned
from whyvae.treat.reads import read_once
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.terms import Term, Terms, constant, plain
from whyvae.watch.tape import Op, Ref

if TYPE_CHECKING:
    from whyvae.treat.case import Case

DEEPEST = 4
USUAL = 1.5  # times: a weight this near to 1 is 1, that of the ELBO; what fits is not known more exactly
ALMOST = 1e-3  # a factor this near to 1 changes nothing


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    factor = float(settings["factor"])
    if abs(factor - 1) < ALMOST:
        raise NoEdit("the KL term has this weight already")
    sites = Sites(case)
    terms = Terms(sites)
    for term in terms.kl:
        reweigh(sites, terms, term, factor)
    return sites.result()


def reweigh(sites: Sites, terms: Terms, term: Term, factor: float) -> None:
    """Collects the edit that multiplies one term by `factor`."""
    weight = found_weight(sites, terms, term)
    if weight is None:
        spot = terms.spot(term)
        spot.source.scale(spot.node, f"{written(factor)} * ")
        return
    spot, op, value = weight
    new = value * (factor if plain(op.name) == "mul" else 1 / factor)
    at = literal(spot, value) or _arrived(spot, value)
    if at is not None and (at.node is spot.node or read_once(at)):
        at.source.replace(at.node, written(1.0 if 1 / USUAL < new < USUAL else new, at.code))
    elif plain(op.name) == "mul":
        spot.source.scale(spot.node, f"{written(factor)} * ")
    else:
        outer = terms.spot(term)
        outer.source.scale(outer.node, f"{written(factor)} * ")


def _arrived(spot: Spot, value: float, depth: int = 0) -> Spot | None:
    """The number that a schedule has come to, where all of it is multiplied by that: `4 * min(1, epoch / 10)`."""
    source, node = spot.source, spot.node
    if isinstance(node, cst.BinaryOperation):
        sides = (node.left, node.right) if isinstance(node.operator, cst.Multiply) else ()
        found = [at for side in sides if (at := literal(Spot(source, side), value)) is not None]
    elif depth > DEEPEST:
        return None
    else:
        values = returned(spot) if isinstance(node, cst.Call) else bindings(spot)
        found = [at for v in values if (at := _arrived(v, value, depth + 1)) is not None]
    return found[0] if len(found) == 1 else None


def found_weight(sites: Sites, terms: Terms, term: Term) -> tuple[Spot, Op, float] | None:
    """(expression, the function that multiplies by it, its value) of the number that weighs the KL term."""
    candidates = []
    for op in terms.chain(term.slot, terms.kl_side):
        value = _factor(sites, op)
        if value is None:
            continue
        spot = next((s for v, s in sites.operands(op) if not isinstance(v, Ref) or v.slot not in terms.kl_side), None)
        if (
            spot is not None
            and not (number(spot.node) is not None and abs(value) in {0.5, 1.0, 2.0})
            and not is_size(spot)
            and not (plain(op.name) == "div" and value == sites.subject.batch)  # `B = len(x)`, under any name
        ):
            candidates.append((spot, op, value))
    named = [c for c in candidates if number(c[0].node) is None]
    return next(iter([*named, *candidates]), None)


def _factor(sites: Sites, op: Op) -> float | None:
    """The number that `op` multiplies or divides by, as a number or as a tensor of one."""
    value = constant(op)
    if value is not None or plain(op.name) not in {"mul", "div"}:
        return value
    others = [sites.subject.tape.slots[a.slot] for a in op.args if isinstance(a, Ref)]
    single = [s for s in others if s.external and s.numel == 1 and s.value is not None and not s.trainable]
    return float(single[0].value) if len(single) == 1 and single[0].value is not None else None


def is_size(spot: Spot) -> bool:
    """`len(x)`, `x.size(0)`, `x.shape[0]`: what averages, and is no weight."""
    text = spot.code
    return "len(" in text or ".shape" in text or ".size(" in text or ".numel(" in text
