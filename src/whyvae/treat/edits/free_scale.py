"""The bound that holds the decoder's learned scale is moved out of its way: `log_sigma.clamp(0, 3)` -> `.clamp(-6, 3)`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst
import torch

from whyvae.treat.literals import literal, written
from whyvae.treat.reads import read_once
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.terms import plain
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "log_sigma = nn.Parameter(torch.zeros(()))  # among the optimised parameters; no clamp that binds\n"
BOUNDS = {"clamp": ("min", "max"), "clip": ("min", "max"), "clamp_min": ("min",), "clamp_max": ("max",)}
LOG, TIMES = 6.0, 1e3  # by which a bound moves: of a logarithm, of a scale or variance itself
MOST = 0.5  # of its numbers stand at a bound that binds


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["bound"]`: "min" where the scale is held too wide, "max" where it is held too narrow."""
    sites, bound = Sites(case), str(settings["bound"])
    found = [(op, held) for op in _on_the_scale(sites) if (held := _binding(sites, op, bound)) is not None]
    if len(found) != 1:
        raise NoEdit("what holds the decoder's scale is no bound that is written down", SNIPPET)
    op, (spot, value) = found[0]
    grown = 1 if bound == "max" else -1
    new = value + grown * LOG if _is_logarithm(sites, op) else value * TIMES**grown
    if new == value:
        raise NoEdit("the bound is 0", SNIPPET, spot.where)
    at = literal(spot, value)
    place = at if at is not None and (at.node is spot.node or read_once(at)) else spot
    place.source.replace(place.node, written(new, place.code))
    return sites.result()


def _on_the_scale(sites: Sites) -> Iterator[Op]:
    """Bounds on what reaches the loss beside the output, and can be learned."""
    subject = sites.subject
    deps, lineage, tape = subject.deps, subject.lineage, subject.tape
    wanted = set(deps.ancestors(tape.roots)) - set(deps.ancestors([lineage.output])) - set(lineage.heads)
    beside = set(deps.descendants([s.index for s in tape.slots if s.trainable])) & wanted
    kl = set(deps.descendants(lineage.heads)) - set(deps.descendants([lineage.z]))
    for op in tape.ops:
        if plain(op.name) in BOUNDS and not beside.isdisjoint(op.outs) and kl.isdisjoint(op.outs):
            yield op


def _binding(sites: Sites, op: Op, bound: str) -> tuple[Spot, float] | None:
    """(its expression, its value) of the bound, where most numbers stand at it."""
    names = BOUNDS[plain(op.name)]
    if bound not in names:
        return None
    position = 1 + names.index(bound)
    value = op.kwargs.get(bound, op.args[position] if len(op.args) > position else None)
    spot = sites.of(op)
    if not isinstance(value, int | float) or spot is None or not isinstance(spot.node, cst.Call):
        return None
    try:
        with torch.no_grad():
            out = sites.subject.replay.run([op.outs[0]])[op.outs[0]]
    except ReplayFailed:
        return None
    if float((out == value).double().mean()) < MOST:
        return None
    named = {a.keyword.value: a.value for a in spot.node.args if a.keyword is not None}
    given = [a.value for a in spot.node.args if a.keyword is None]
    method = len(given) + len(named) < len(op.args) + len(op.kwargs)
    at = named.get(bound) or (given[position - method] if len(given) > position - method else None)
    return None if at is None else (Spot(spot.source, at), float(value))


def _is_logarithm(sites: Sites, op: Op) -> bool:
    """Is an exponential taken of it before the loss?"""
    after = set(sites.subject.deps.descendants(op.outs)) | set(op.outs)
    return any(plain(o.name) in {"exp", "exp_"} and not after.isdisjoint(o.reads) for o in sites.subject.tape.ops)
