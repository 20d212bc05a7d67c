"""The norm of the gradient is limited before each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.literals import written
from whyvae.treat.program import called_at, calls, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites

if TYPE_CHECKING:
    from whyvae.treat.case import Case


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["norm"]`: the largest norm, in the units of the loss."""
    sites, norm = Sites(case), written(float(settings["norm"]))
    if not case.subject.optimizers:
        raise NoEdit("the parameters are stepped without an optimiser")
    for optimizer in case.subject.optimizers:
        step = called_at(sites, optimizer.stepped_at, "step")
        if any(True for _ in calls(step.source, "clip_grad_norm_")):
            raise NoEdit("the gradient is clipped already", where=step.where)
        name = step.source.code(receiver(step.node))
        parameters = f'[p for group in {name}.param_groups for p in group["params"]]'
        step.source.insert_before(step.node, f"torch.nn.utils.clip_grad_norm_({parameters}, {norm})")
    return sites.result()
