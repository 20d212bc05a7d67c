"""The reconstruction term becomes D/2 log(mean squared error): the noise variance is the residual's own.

The log turns any constant factor of the error into a constant of the loss, so the term is wrapped where it stands,
whatever scaled it (Rybkin, Daniilidis & Levine 2021, "Simple and effective VAE training with calibrated decoders").
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import libcst as cst
import torch

from whyvae.treat.averages import Averages, size_of_example
from whyvae.treat.bindings import bindings
from whyvae.treat.edits.sum_over_features import weigh_one
from whyvae.treat.literals import literals
from whyvae.treat.operands import imported, number
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import Source, dotted
from whyvae.treat.terms import Term, Terms
from whyvae.watch.replay import ReplayFailed

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = """\
squared_error = ((output - x) ** 2).flatten(1).sum(1)  # per example
reconstruction = 0.5 * x[0].numel() * torch.log(squared_error.mean() / x[0].numel())
loss = reconstruction + kl.sum(1).mean()  # kl: [batch, latents]
"""


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    calibrate(sites)
    return sites.result()


def calibrate(sites: Sites) -> None:
    """Collects the edits of both terms."""
    terms = Terms(sites)
    if len(terms.reconstruction) != 1:
        raise NoEdit("the reconstruction is made of several parts", SNIPPET)
    term = terms.reconstruction[0]
    spot = terms.spot(term)
    try:
        if not _own_spread(sites):
            _wrap(sites, terms, term, spot)
        averages = Averages(sites, terms)
        for kl in terms.kl:
            averages.sum_over_features(kl, terms.kl_side)
            if averages.divided(kl, terms.kl_side) == 1:
                averages.divide(kl, terms.kl_side)
    except NoEdit as no:
        raise NoEdit(str(no), SNIPPET, spot.where) from no
    weigh_one(sites, terms)


def _own_spread(sites: Sites) -> bool:
    """`Normal(y, 0.1).log_prob(x)`: the residual's own spread in place of the 0.1 (its gradient is that of the log)."""
    op = next((o for o in sites.subject.tape.ops if o.index == sites.subject.lineage.meeting.op), None)
    spot = None if op is None else sites.of(op)
    call = spot.node if spot is not None else None
    if spot is None or not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute) or not call.args:
        return False
    normal = _normal(spot.source, call.func.value) if call.func.attr.value == "log_prob" else None
    if normal is None:
        return False
    output, scale = Spot(spot.source, normal.args[0].value), normal.args[1].value
    target = Spot(spot.source, call.args[0].value)
    known = literals(Spot(spot.source, scale), _value(Spot(spot.source, scale)))
    if not output.simple or not known:
        raise NoEdit("the likelihood's scale is not written down, or its mean has no name")
    spread = f"({output.code} - {target.closed}).detach().pow(2).mean().sqrt()"
    spot.source.replace(scale, spread)
    return True


def _normal(source: Source, node: cst.CSTNode) -> cst.Call | None:
    """The `Normal(mean, scale)` that an expression is, wraps, or is a name of."""
    for candidate in (node, *(s.node for s in bindings(Spot(source, node)) if s.source is source)):
        for call in source.nodes(cst.Call, candidate):
            if dotted(call.func).split(".")[-1] == "Normal" and len(call.args) > 1:
                return cast("cst.Call", call)
    return None


def _value(spot: Spot) -> float:
    """The number an expression stands for, NaN where it is none."""
    values = [number(n) for n in (spot.node, *(s.node for s in bindings(spot)))]
    return next((v for v in values if v is not None), math.nan)


def _wrap(sites: Sites, terms: Terms, term: Term, spot: Spot) -> None:
    if not _squared_error(terms, term.slot):
        raise NoEdit("the reconstruction term is not a plain squared error")
    log = "torch.log" if "torch" in imported(spot.source) else ""
    size = size_of_example(sites)
    inner = spot.code if not sites.subject.tape.slots[term.slot].shape else f"{spot.closed}.mean()"
    spot.source.replace(spot.node, f"{size} / 2 * " + (f"{log}({inner})" if log else f"({inner}).log()"))


def _squared_error(terms: Terms, slot: int) -> bool:
    """Is the term zero where the output equals its target, and four times as large at twice the distance?"""
    lineage, replay = terms.lineage, terms.subject.replay
    if lineage.target is None or lineage.output < 0:
        return False
    try:
        with torch.no_grad():
            target = replay.run([lineage.target])[lineage.target]
            if target.numel() != terms.tape.slots[lineage.output].numel:
                return False
            target = target.reshape(terms.tape.slots[lineage.output].shape)
            away = torch.randn(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            at = [float(replay.run([slot], feed={lineage.output: target + k * away})[slot].sum()) for k in (0, 1, 2)]
    except ReplayFailed:
        return False
    return abs(at[0]) < 1e-9 * abs(at[1]) and at[1] > 0 and abs(at[2] / at[1] - 4) < 1e-6
