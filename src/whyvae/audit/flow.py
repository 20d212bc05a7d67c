"""A posterior pushed through a normalising flow, told from a KL that lacks its terms.

    z' = f(z),  log q(z'|x) = log q(z|x) - log |det df/dz|        (Rezende & Mohamed 2015)

What such a loss does to the heads directly is -w log sigma alone: the rest of log q(z'|x) - log p(z') is a function of
the sample. In z itself this is a plain Gaussian posterior under the prior p(f(z)) |det df/dz|, and is judged as one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whyvae.audit.cut import Cut, cut, gradient
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay

EXACT = 1e-3  # of the pull, as in the audit of formulas; 1e-8 beside a logarithm stays below 1e-6
MOST_PLACES = 12  # tensors that may be f(z): each costs a Jacobian; the last layers of a flow make about four
MOST = 64  # units: the determinant's gradient costs their number squared in backward passes


def flows_to_normal(lineage: Lineage, replay: Replay, weight: float, loss: int | None = None) -> bool:
    """Is the rest of the loss, beside the output, `weight` times -log N(f(z); 0, I) - log |det df/dz|?

    f is what carries z to the last tensor of its shape that everything decoded is made from.
    """
    return flowed(lineage, replay, weight, loss) >= 0


def flowed(lineage: Lineage, replay: Replay, weight: float, loss: int | None = None) -> int:
    """The slot of that f(z); -1: there is none."""
    return _explained(lineage, replay, weight, loss, _carried(lineage))


def prior_flows_to_normal(lineage: Lineage, replay: Replay, weight: float, loss: int | None = None) -> bool:
    """The same of a prior: p(z) = N(f(z); 0, I) |det df/dz|, where the decoder is given z itself (Chen et al. 2017)."""
    return _explained(lineage, replay, weight, loss, _pulled_back(lineage)[:MOST_PLACES]) >= 0


def _explained(lineage: Lineage, replay: Replay, weight: float, loss: int | None, places: list[int]) -> int:
    if not places or lineage.latents > MOST:
        return -1
    step = cut(lineage, replay, loss=loss, also=places)
    beside = _beside_output(step)
    size = float(beside.norm())
    for place, value in zip(places, step.others, strict=True):
        pull = _pull(value, step.z) if size > 0 else None
        if pull is not None and float((beside - weight * pull).norm()) <= EXACT * size:
            return place
    return -1


def _carried(lineage: Lineage) -> list[int]:
    """Slots of the shape of z that are made of it, and that the output is made from by no way round; last first."""
    deps, slots = Dependencies(lineage.tape), lineage.tape.slots
    behind, above = deps.descendants([lineage.z]), deps.ancestors([lineage.output])
    shape = slots[lineage.z].shape
    found = [
        o for op in lineage.tape.ops if op.index in lineage.decoder_ops for o in op.outs
        if o in behind and o in above and o != lineage.z and slots[o].shape == shape and len(shape) == 2
        and lineage.z not in deps.ancestors([lineage.output], stop={o})
    ]  # fmt: skip
    return found[::-1]


def _pulled_back(lineage: Lineage) -> list[int]:
    """Slots of the shape of z that are made of it beside the output, and that the loss is made from; last first."""
    deps, slots = Dependencies(lineage.tape), lineage.tape.slots
    shape, behind = slots[lineage.z].shape, deps.descendants([lineage.z])
    beside = deps.ancestors(lineage.tape.roots, stop={lineage.output}) - deps.ancestors([lineage.output])
    found = behind & beside
    return [
        o for op in lineage.tape.ops for o in op.outs if o in found and slots[o].shape == shape and len(shape) == 2
    ][::-1]


def _beside_output(step: Cut) -> Tensor:
    """What the loss does to z by other ways than the output, flattened."""
    if step.output is None or not step.output.requires_grad or not step.loss.requires_grad:
        return torch.zeros(step.z.numel(), dtype=torch.float64)
    (handed,) = torch.autograd.grad(step.loss, step.output, retain_graph=True, allow_unused=True)
    through = torch.zeros_like(step.z)
    if handed is not None:
        (back,) = torch.autograd.grad(step.output, step.z, handed, retain_graph=True, allow_unused=True)
        through = back if back is not None else through
    return gradient(step.loss, [step.z]) - through.flatten()


def _pull(value: Tensor, z: Tensor) -> Tensor | None:
    """Gradient in z of -log N(f(z); 0, I) - log |det df/dz|, summed over the batch, flattened; None if f has no volume."""
    if not value.requires_grad:
        return None
    rows = [
        torch.autograd.grad(value[:, j].sum(), z, create_graph=True, allow_unused=True)[0] for j in range(z.shape[1])
    ]
    if any(r is None for r in rows):
        return None
    jacobian = torch.stack([r for r in rows if r is not None], 1)
    energy = value.square().sum() / 2 - torch.linalg.slogdet(jacobian).logabsdet.sum()
    return gradient(energy, [z])
