"""No activation behind the layers that make mu and log-variance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from whyvae.treat.activations import FENCES, remove
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites
from whyvae.watch.replay import ReplayFailed

FAR = 4.0  # of mu, and of a log-variance: a unit in use needs no more
RARE = 1e-3  # of the numbers: outliers

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    fences = _fences(sites)
    if not fences:
        raise NoEdit("no activation stands behind the heads")
    for op in [f for f in fences if _confines(sites, f)] or fences:
        remove(sites, op)
    return sites.result()


def _confines(sites: Sites, op: Op) -> bool:
    """Does it change numbers of the recorded step? A clamp far out that never does guards against overflow, and stays."""
    bounds = [b for b in (*op.args[1:], *op.kwargs.values()) if isinstance(b, int | float)]
    if not op.name.startswith(("clamp", "clip")) or any(abs(b) < FAR for b in bounds):
        return True
    try:
        with torch.no_grad():
            values = sites.subject.replay.run([op.reads[0], op.outs[0]])
    except ReplayFailed:
        return True
    before, after = values[op.reads[0]], values[op.outs[0]]
    return bool((before != after).double().mean() > RARE)


def _fences(sites: Sites) -> list[Op]:
    """The activations between the heads and z, but those that only make a positive sigma."""
    subject = sites.subject
    deps, lineage = subject.deps, subject.lineage
    ends = deps.ancestors([lineage.z], stop=set(lineage.heads))
    between = deps.descendants(lineage.heads) & ends
    return [
        op for op in subject.tape.ops
        if op.name in FENCES and op.name not in {"exp", "square"} and not between.isdisjoint(op.outs)
        and not between.isdisjoint(op.reads) and not _makes_sigma(sites, op)
    ]  # fmt: skip


def _makes_sigma(sites: Sites, op: Op) -> bool:
    """Softplus and the like make a standard deviation where nothing after them takes an exponential."""
    deps, ops = sites.subject.deps, sites.subject.tape.ops
    if op.name not in {"softplus", "elu", "abs"}:
        return False
    after = deps.descendants(op.outs) & deps.ancestors([sites.subject.lineage.z])
    return not any(o.name in {"exp", "exp_", "expm1"} and not after.isdisjoint(o.reads) for o in ops)
