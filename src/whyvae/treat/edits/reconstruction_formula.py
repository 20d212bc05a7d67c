"""Output and target in their own places, the sign of the reconstruction term turned round, or errors squared before they
are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.probes.exchange import CROSS_ENTROPIES
from whyvae.probes.objective import Objective
from whyvae.treat.bindings import bindings
from whyvae.treat.places import ONE_WAY, misplaced
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import ATOM, dotted, tightness
from whyvae.treat.terms import Terms, plain

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPETS = {
    "sign": "loss = -log_likelihood + kl\n",
    "exchanged": "rec = F.binary_cross_entropy(output, target)  # the prediction comes first: F.poisson_nll_loss(log_rate, counts)\n",
    "added first": "rec = ((output - x) ** 2).sum(1)  # not (output - x).sum(1) ** 2\n",
}
POWERS, SUMS = {"pow", "square", "abs"}, {"sum", "mean"}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["mistake"]`: "sign", "exchanged" or "added first"."""
    sites = Sites(case)
    mistake = str(settings["mistake"])
    try:
        {"sign": _turn, "exchanged": _exchange, "added first": _square_first}[mistake](sites)
    except NoEdit as no:
        raise NoEdit(str(no), SNIPPETS[mistake], no.where) from no
    return sites.result()


def _turn(sites: Sites) -> None:
    """`kl + log_px` -> `kl - log_px`."""
    objective = sites.case.get(Objective)
    if objective is not None and objective.sign > 0 and not objective.pull < 0:
        raise NoEdit("the reconstruction term pulls the output to the data")
    terms = Terms(sites)
    for term in terms.reconstruction:
        spot = terms.spot(term)
        above = spot.source.parent(spot.node)
        sign = above.operator if isinstance(above, cst.BinaryOperation) and above.right is spot.node else None
        if isinstance(sign, cst.Add | cst.Subtract):
            spot.source.replace_token(sign, "-" if isinstance(sign, cst.Add) else "+")
        else:
            spot.source.scale(spot.node, "-")


def _exchange(sites: Sites) -> None:
    """The two arguments of the loss function, or of the function of the user's that computes it."""
    op = misplaced(sites.subject)
    if op is None:
        raise NoEdit("output and target stand in their places")
    first = 0 if op.name in CROSS_ENTROPIES | ONE_WAY else 1
    for depth in range(first, len(op.frames)):
        spot = sites.of(op, depth)
        if spot is not None and _pair(spot):
            return
    raise NoEdit("the call that is given output and target was not found")


def _square_first(sites: Sites) -> None:
    """`(output - x).sum(1) ** 2` -> `((output - x) ** 2).sum(1)`."""
    deps, tape = sites.subject.deps, sites.subject.tape
    after, before = deps.descendants([sites.subject.lineage.output]), deps.ancestors(tape.roots)
    done = False
    for op in tape.ops:
        if plain(op.name) in POWERS and not after.isdisjoint(op.reads) and not before.isdisjoint(op.outs):
            spot = sites.of(op)
            done |= spot is not None and _exchanged(spot)
    if not done:
        raise NoEdit("no power of a sum of errors was found")


def _exchanged(spot: Spot) -> bool:
    """A power of a sum becomes a sum of powers."""
    source, node = spot.source, spot.node
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Power):
        base: cst.CSTNode = node.left
    elif isinstance(node, cst.Call):
        of_module = dotted(node.func).startswith("torch.")
        base = node.args[0].value if of_module and node.args else getattr(node.func, "value", node)
    else:
        return False
    added = base if isinstance(base, cst.Call) else next((v.node for v in bindings(Spot(source, base))), base)
    if (
        not isinstance(added, cst.Call)
        or not isinstance(added.func, cst.Attribute)
        or added.func.attr.value not in SUMS
    ):
        return False
    error, rest = added.func.value, ", ".join(source.code(a) for a in added.args)
    if dotted(error) == "torch":
        error, rest = added.args[0].value, ", ".join(source.code(a) for a in added.args[1:])
    (start, end), (first, last) = source.offsets(node), source.offsets(base)
    closed = source.code(error) if tightness(error) == ATOM else f"({source.code(error)})"
    power = source.text[start:first] + closed + source.text[last:end]
    source.replace(node, f"({power}).{added.func.attr.value}({rest})")
    return True


def _pair(spot: Spot) -> bool:
    """Exchanges the first two arguments of a call."""
    if not isinstance(spot.node, cst.Call):
        return False
    given = [a.value for a in spot.node.args if a.keyword is None or a.keyword.value in {"input", "target"}][:2]
    if len(given) != 2:
        return False
    first, second = (spot.source.code(g) for g in given)
    spot.source.replace(given[0], second)
    spot.source.replace(given[1], first)
    return True
