"""The scale of a likelihood of no known family, from how its gradient spreads and how it bends.

Of -log p(x | eta) the mean squared gradient is the mean curvature, where p fits (the information-matrix equality; White
1982). A term that is `c` times that has c^2 times the one and c times the other, so that c is their quotient: of squared
errors c times the noise variance that fits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whyvae.audit.cut import cut
from whyvae.audit.reductions import reductions
from whyvae.watch.dependencies import Dependencies, origin
from whyvae.watch.lineage import Lineage
from whyvae.watch.meetings import Meeting
from whyvae.watch.replay import Replay

if TYPE_CHECKING:
    from whyvae.audit.likelihood import Likelihood

PROBES = 4  # random signs; where numbers do not meet each other in the loss, one is exact
NEAR = 5.0  # within this factor of a density that is summed or averaged as this term is, it is that density: five times off, a
# weight that fits is neither too light (1/25) nor is one that collapses taken for one that fits
FEWEST = 64  # numbers
_MOVING = {
    "permute", "transpose", "T", "mT", "t", "flip", "fliplr", "flipud", "roll", "rot90", "sort", "swapaxes", "movedim",
    "__getitem__", "index_select", "gather", "take", "cat", "stack",
}  # fmt: skip


def read(lineage: Lineage, replay: Replay, meeting: Meeting, found: Likelihood) -> Likelihood | None:
    """What `meeting` is of, and `found` could not name, as a density of another form; None where the loss does not bend at the output, or has no output
    that pairs with the target number by number.
    """
    deps = Dependencies(lineage.tape)
    slot = _carrier(deps, meeting)
    if slot < 0:
        return None
    met = replace(meeting, output=slot, target=_data(deps, lineage.data, meeting.target))
    lineage.meetings = (met, *(m for m in lineage.meetings if m != met))
    step = cut(lineage, replay)
    if step.output is None or step.target is None or not step.output.requires_grad:
        return None
    (g,) = torch.autograd.grad(step.loss, step.output, create_graph=True, retain_graph=True, allow_unused=True)
    if g is None or not g.requires_grad or g.numel() < FEWEST or not torch.isfinite(g).all():
        return None
    bends, pulls = float(_curvature(g, step.output).sum()), float(g.detach().square().sum())
    if not (bends > 0 and pulls > 0 and math.isfinite(bends)):
        return None
    scale, stated = pulls / bends, 1 / reductions(deps, lineage).reconstruction
    output, target = step.output.detach(), step.target.detach().double().reshape(step.output.shape)
    scale = stated if stated / NEAR < scale < NEAR * stated else scale
    return replace(
        found, family="density", scale=scale, sign=1, meeting=met, output=output, target=step.target.detach(),
        own_target=None, gradient=g.detach(), link=_link(output, target),
    )  # fmt: skip


def _data(deps: Dependencies, data: int, target: int | None) -> int | None:
    """What `target` is made from number by number: a density also takes logarithms and gamma functions of the data."""
    if target is None:
        return None
    slots = deps.tape.slots
    between = deps.descendants([data]) & deps.ancestors([target])
    moved = any(op.name in _MOVING and not (between - {data}).isdisjoint(op.outs) for op in deps.tape.ops)
    source = data if target in between and not moved else origin(deps, target)
    alike = slots[source].numel == slots[target].numel and slots[source].dtype.is_floating_point
    return source if alike else target


def _carrier(deps: Dependencies, meeting: Meeting) -> int:
    """The last slot, number by number with the target, through which all of the output at `meeting` reaches the loss; -1:
    there is none.
    """
    tape, size = deps.tape, -1 if meeting.target is None else deps.tape.slots[meeting.target].numel
    region, todo, tops = {meeting.output}, [meeting.output], set()
    while todo and size > 0:
        slot = todo.pop()
        position = deps.producer.get(slot)
        reads = [] if position is None or deps.is_mixing(tape.ops[position]) else tape.ops[position].reads
        above = [r for r in reads if r in deps.encoded and tape.slots[r].numel == size]
        tops |= set() if above else {slot}
        todo += [r for r in above if r not in region]
        region.update(above)
    if len(tops) != 1 or tape.slots[meeting.output].numel != size:
        return -1
    (top,) = tops
    for slot in sorted(region, key=lambda s: -deps.producer.get(s, -1)):
        if slot == top or top not in deps.ancestors(tape.roots, stop={slot}):
            return slot
    return -1


def _curvature(g: Tensor, output: Tensor) -> Tensor:
    """The diagonal of the second derivative, exact where no two numbers of the output meet each other in the loss."""
    generator = torch.Generator().manual_seed(12)
    total = torch.zeros_like(output)
    for _ in range(PROBES):
        v = torch.randint(0, 2, output.shape, generator=generator).double() * 2 - 1
        (hv,) = torch.autograd.grad((g * v).sum(), output, retain_graph=True, allow_unused=True)
        total += 0 if hv is None else (hv * v).detach() / PROBES
    return total


def _link(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, the means of x they stand for), rising: the monotone function of the output that fits the targets best."""
    from sklearn.isotonic import IsotonicRegression

    y, t = output.flatten().numpy(), target.flatten().numpy()
    rising = float(((output - output.mean()) * (target - target.mean())).sum()) >= 0
    fitted = IsotonicRegression(increasing=rising).fit(y, t)
    return torch.from_numpy(fitted.X_thresholds_), torch.from_numpy(fitted.y_thresholds_)
