"""Numbers of the data that the loss leaves out (missing values, masked): what stands there is no target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whyvae.audit.elements import mask
from whyvae.probes.objective import audited_likelihood

_OF_RESIDUALS = {"gaussian", "laplace", "huber", "log-cosh"}  # families whose slope is 0 nowhere but at the target


def left_out(subject: Any, feed: Mapping[int, Tensor]) -> Tensor | None:
    """Where the squared error of the step with this `feed` has no slope in the output although output and target differ, in
    the output's shape; None where the recorded step leaves nothing out, or other numbers than the output has are met.
    """
    likelihood, lineage = audited_likelihood(subject), subject.lineage
    if (
        likelihood is None
        or likelihood.family not in _OF_RESIDUALS
        or likelihood.gradient is None
        or likelihood.error is None
    ):
        return None
    if not isinstance(mask(likelihood.gradient), Tensor):
        return None
    with torch.no_grad():
        values = subject.replay.run([lineage.output, lineage.target], feed=feed)
    output, target = values[lineage.output].detach().requires_grad_(), values[lineage.target]
    roots = list(dict.fromkeys(subject.tape.roots))
    with torch.enable_grad():
        made = subject.replay.run(roots, feed={**feed, lineage.output: output})
        loss = torch.stack([made[root].sum() for root in roots]).sum()
    (slope,) = torch.autograd.grad(loss, output)
    gaps: Tensor = (slope == 0) & (output.detach() != target.reshape(output.shape))
    return gaps
